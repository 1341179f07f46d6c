"""A training run: model, data and optimiser, step after step, until it is done or told to stop.

A run is a function of its settings: killed at any moment and resumed, it ends with the parameters
of the run that was not, on a CPU to the bit. What that needs is in every checkpoint, see
`run_checkpoint.py`.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.loading.loader import Batch, PairLoader
from fastclip.data.pixels import standardize
from fastclip.distributed.processes import Processes
from fastclip.evaluate.evaluator import Evaluator, repeats
from fastclip.models.open_clip_config import to_json
from fastclip.models.tower_precision import TowerPrecision
from fastclip.progress import is_watched, progress_bar
from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.checkpoints.same_run import OwnRun
from fastclip.train.checkpoints.trained_state import TrainedState
from fastclip.train.log.run_log import RunLog
from fastclip.train.log.step_report import StepReport, peak_bytes
from fastclip.train.run.contents import contents_of_run
from fastclip.train.run.data import RunData
from fastclip.train.run.loss import LossFactory, make_loss
from fastclip.train.run.model import RunModel, make_model
from fastclip.train.run.stop_signals import StopSignals, ToldToStop
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.optimizer import make_optimizer, moments_of
from fastclip.train.step.optimizer_step import OptimizerStep, StepOutcome
from fastclip.train.step.schedule import learning_rate_at
from fastclip.train.weights.masters import NO_MASTERS, MasterWeights
from fastclip.train.weights.placement import make_average, place, wrap
from fastclip.train.weights.sharding import gathered


class Run:
    """Everything of a run on one rank.

    Args:
        config: the same on all ranks.
        directory: of the run; only the first rank writes.
        make_loss: makes the loss, whose parameters are trained and whose state is in every
            checkpoint, see `fastclip.train.run.loss`.

    Raises:
        ValueError, OSError, RuntimeError: model, data or a checkpoint cannot be used as told.
    """

    def __init__(
        self,
        config: RunConfig,
        processes: Processes,
        directory: Path,
        log: RunLog,
        make_loss: LossFactory = make_loss,
    ) -> None:
        self.processes, self.log = processes, log
        self.arithmetic = config.arithmetic(processes.world_size)
        self.precision = TowerPrecision(config.precision, processes.device)
        # By their names, because both depend on the machine where they are not given.
        config = replace(config, precision=self.precision.name, device=processes.device.type)
        self.config = config
        torch.manual_seed(config.seed)
        self.run_model: RunModel = make_model(config, self.precision.parameters)
        self.model = self.run_model.model
        self.loss = make_loss(config, self.model).to(processes.device)
        self.data = RunData(config, self.run_model, processes)
        self.steps_per_epoch = self.data.steps_per_epoch
        moments = moments_of(self.model)
        self.train_config = config.training(self.steps_per_epoch, processes.world_size, moments)
        self._prepare_steps()
        self.signals = StopSignals(processes)
        # An average of the weights is evaluated in their place, and it is in float32.
        has_average = self.state.average is not None
        evaluated = self.precision.of_float32() if has_average else self.precision
        self.evaluator = Evaluator(
            processes, self._prepare_for(evaluated), evaluated.autocast, self.run_model.tokenizer,
            self.arithmetic.micro_batch_size, log.warn, self.signals.obey,
        )  # fmt: skip
        own = OwnRun(
            config, self.train_config, moments, self.steps_per_epoch, processes.world_size,
            to_json(self.model.config),
            contents_of_run(self.run_model, self.data, processes, log.say),
        )  # fmt: skip
        self.checkpoints = RunCheckpoints(
            own, processes, directory, log, self.state, self.data.train, self.compute
        )
        self.epoch = self.global_step = 0
        self.saved_at, self.saved_step = time.monotonic(), None
        torch.manual_seed(config.seed + 1 + processes.rank)  # other dropout on every rank

    def train(self) -> int:
        """Train to the end, or until a signal of `stop_signals.py`; return the exit status.

        Raises:
            FloatingPointError: a step may not be taken and not be left out, no step of an epoch
                was taken, or what is to be saved is not finite.
        """
        self.model.train()
        self.checkpoints.keep_place()
        with self.signals, contextlib.closing(self.data.train):
            try:
                self._report_epoch_that_was_cut_off()
                while self.epoch < self.config.epochs:
                    self._train_epoch()
                    self.epoch += 1
                    self._after_epoch()
            except ToldToStop as told:
                if self.saved_step != self.global_step:
                    self._save()
                self.log.say(
                    f"told to stop: saved after step {self.global_step}, as {told.signal.name} "
                    "came; go on with --resume latest"
                )
                return told.status
        self._require_steps(self.counts.taken, "the run")
        return 0

    def resume(self, path: str) -> None:
        """Go to where a checkpoint was written; see `RunCheckpoints.restore`."""
        self.epoch, self.global_step = self.checkpoints.restore(path)
        self.config = self.checkpoints.config

    def _prepare_for(self, precision: TowerPrecision) -> Callable[[Tensor], Tensor]:
        """What turns uint8 pixels on the host into images that a model of `precision` takes.

        It is no method: a step searches all that its functions lead to for generators.
        """
        return functools.partial(
            _standard_images, device=self.processes.device, mean=self.run_model.mean,
            std=self.run_model.std, dtype=precision.input_dtype,
        )  # fmt: skip

    def _prepare_steps(self) -> None:
        config, scaler = self.config, self.precision.scaler()
        average = make_average(self.model, config.ema_decay, config.fsdp)
        for model in [self.model] if average is None else [self.model, average.module]:
            place(model, self.processes, config.fsdp)
        if config.torchcompile:
            self.model.compile()
        has_masters = self.precision.has_masters
        masters = MasterWeights(self.model.named_parameters()) if has_masters else NO_MASTERS
        optimizer = make_optimizer(self.model, self.train_config, masters, self.loss)
        self.compute = CachedStep(
            wrap(self.model, self.processes),
            self.loss,
            self.arithmetic.micro_batch_size,
            config.activation_budget,
            autocast=self.precision.autocast,
            scaler=scaler,
            prepare=self._prepare_for(self.precision),
        )
        self.take_step = OptimizerStep(self.compute, optimizer, self.train_config, average, masters)
        self.counts = self.take_step.counts
        self.state = TrainedState(
            self.model, optimizer, scaler, average, masters, self.counts, self.loss
        )

    def _train_epoch(self) -> None:
        """The rest of an epoch."""
        losses: list[float] = []
        done = self.global_step - self.epoch * self.steps_per_epoch
        shown = self.processes.is_first and is_watched()
        title = f"epoch {self.epoch}"
        loaded = iter(self.data.train)
        with progress_bar(self.steps_per_epoch, done, title, shown=shown) as advance:
            for _ in range(done, self.steps_per_epoch):
                started = time.perf_counter()
                batches = self._next_batches(loaded)
                data_seconds = time.perf_counter() - started
                outcome = self.take_step(batches, self.global_step)
                self.global_step += 1
                self.checkpoints.keep_place()
                if outcome.objection is not None:
                    self.log.warn(outcome.objection)
                losses += [outcome.loss] if math.isfinite(outcome.loss) else []
                self._log_step(outcome, losses, data_seconds, time.perf_counter() - started)
                advance(1, f"loss {outcome.loss:.4f}")
                self._save_if_due()
        next(loaded, None)  # the loader counts the epoch
        self.checkpoints.keep_place()

    def _next_batches(self, loaded: Iterator[Batch]) -> list[tuple[Tensor, Tensor]]:
        """The micro-batches of a step, when all ranks have theirs; it saves where it is time to.

        Raises:
            ToldToStop: by a signal; what was saved of this rank is from before this call.
        """

        def fetch() -> list[tuple[Tensor, Tensor]]:
            return [
                (images, tokens.to(self.processes.device, non_blocking=True))
                for images, tokens, _ in islice(loaded, self.arithmetic.num_micro_batches)
            ]

        minutes = self.config.save_every_minutes
        is_late = minutes is not None and time.monotonic() - self.saved_at > 60 * minutes
        batches, (is_due,) = self.signals.obey_and_exchange(
            fetch, [self.processes.is_first and is_late and self.saved_step != self.global_step]
        )
        if is_due:
            self._save()
        return batches

    def _log_step(
        self, outcome: StepOutcome, losses: list[float], data_seconds: float, seconds: float
    ) -> None:
        in_epoch = self.global_step - self.epoch * self.steps_per_epoch
        is_last = in_epoch == self.steps_per_epoch
        if in_epoch % self.config.log_every_n_steps and not is_last and in_epoch != 1:
            return
        size = self.arithmetic.global_batch_size
        self.log.step(
            StepReport(
                epoch=self.epoch,
                global_step=self.global_step,
                num_seen=in_epoch * size,
                num_samples=self.steps_per_epoch * size,
                global_batch_size=size,
                world_size=self.processes.world_size,
                data_seconds=data_seconds,
                seconds=seconds,
                learning_rate=learning_rate_at(self.global_step - 1, self.train_config),
                logit_scale=outcome.logit_scale,
                loss=outcome.loss,
                mean_loss=sum(losses) / len(losses) if losses else math.nan,
                peak_bytes=peak_bytes(self.processes.device),
                gradient_norm=outcome.gradient_norm,
                num_left_out=self.counts.left_out,
            )
        )

    def _save_if_due(self) -> None:
        """Save after so many steps; the end of an epoch saves for itself."""
        every = self.config.save_every_steps
        is_last = self.global_step % self.steps_per_epoch == 0
        if every is not None and self.global_step % every == 0 and not is_last:
            self._save()

    def _after_epoch(self) -> None:
        num_taken = self.counts.taken_in_epoch
        self.counts.begin_epoch()
        # An epoch in vain stays under no name, but the scale that it has found is kept.
        self._save(self._names_of_epoch() if num_taken else [])
        self._require_steps(num_taken, f"epoch {self.epoch}")
        self._report_epoch()

    def _require_steps(self, num_taken: int, what: str) -> None:
        """
        Raises:
            FloatingPointError: no step was taken, which is no success.
        """
        if num_taken == 0:
            raise FloatingPointError(
                f"no step of {what} was taken (of the whole run: {self.counts.summary()}): lower "
                "the learning rate or, where float16 overflows, use --precision amp_bf16; "
                "--resume latest goes on with the scale of the loss that was found so far"
            )

    def _report_epoch(self) -> None:
        bad = self._account_of(self.data.train)
        self.log.say(f"epoch {self.epoch - 1} is done; {self.counts.summary()}; {bad.summary()}")
        values: dict[str, Any] = {
            "epoch": self.epoch, "global_step": self.global_step, "steps": self.counts.totals(),
            "bad_samples": bad.to_dict(),
        }  # fmt: skip
        metrics, bad = self._evaluate()
        if metrics:
            shown = "\t".join(f"{name}: {value:.4f}" for name, value in metrics.items())
            self.log.say(f"Eval Epoch: {self.epoch} {shown}")
            self.log.say(f"in validation {bad.summary()}")
            values["val_bad_samples"] = bad.to_dict()
        self.log.epoch(values, metrics)

    def _report_epoch_that_was_cut_off(self) -> None:
        """A run that was killed between the checkpoint of an epoch and its results owes them."""
        is_at_end = self.epoch > 0 and self.global_step == self.epoch * self.steps_per_epoch
        if is_at_end and not self.processes.broadcast(self.log.has_epoch(self.epoch)):
            self._report_epoch()

    def _evaluate(self) -> tuple[dict[str, float], BadSamples]:
        """Metrics of what is due after this epoch, and the account of its data, on the first rank.

        Evaluated is the average of the weights, if there is one.
        """
        data, average = self.data, self.state.average
        model = self.model if average is None else average.module
        model.eval()
        metrics, bad = {}, BadSamples()
        with gathered(model):
            if data.validation is not None and self._is_due(self.config.val_frequency):
                with contextlib.closing(data.validation_loader()) as loader:
                    metrics |= self.evaluator.retrieval(model, loader)
                if (said := repeats(metrics)) is not None:
                    self.log.say(f"in validation {said}")
                bad = bad.merge(self._account_of(loader))
            for task in data.tasks if self._is_due(self.config.zeroshot_frequency) else ():
                with contextlib.closing(data.task_loader(task)) as loader:
                    metrics |= self.evaluator.zero_shot(model, task, loader)
                bad = bad.merge(self._account_of(loader))
        self.model.train()
        return metrics, bad

    def _account_of(self, loader: PairLoader) -> BadSamples:
        """Of the bad samples of all ranks, on the first; an empty one on others."""
        accounts = self.processes.gather(loader.bad_samples) or []
        return functools.reduce(BadSamples.merge, accounts, BadSamples())

    def _is_due(self, frequency: int) -> bool:
        return bool(frequency) and (self.epoch % frequency == 0 or self._is_last_epoch)

    @property
    def _is_last_epoch(self) -> bool:
        return self.epoch == self.config.epochs

    def _save(self, names: Sequence[str] = ()) -> None:
        self.checkpoints.save(Progress(self.epoch, self.global_step), names)
        self.saved_at, self.saved_step = time.monotonic(), self.global_step

    def _names_of_epoch(self) -> list[str]:
        """Under which the checkpoint of an epoch stays."""
        keep = self._is_due(self.config.save_frequency) or self._is_last_epoch
        names = [f"epoch_{self.epoch}.pt"] if keep else []
        return names + (["epoch_latest.pt"] if self.config.save_most_recent else [])


def _standard_images(
    images: Tensor,
    device: torch.device,
    mean: float | tuple[float, ...],
    std: float | tuple[float, ...],
    dtype: torch.dtype,
) -> Tensor:
    pixels = images.to(device, non_blocking=True)
    return standardize(pixels, mean, std).to(dtype)
