"""A training run: model, data and optimiser, step after step, until it is done or told to stop.

A run is a function of its settings: killed at any moment and resumed, it ends with the parameters
of the run that was not, on a CPU to the bit. What that needs is in every checkpoint, see
`run_checkpoint.py`.
"""

import functools
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.loading.loader import PairLoader
from fastclip.data.pixels import standardize
from fastclip.losses.clip import ClipLoss
from fastclip.losses.siglip import SigLipLoss
from fastclip.models.open_clip_config import to_json
from fastclip.train.distribution import make_average, place, wrap
from fastclip.train.evaluation import Evaluator, repeats
from fastclip.train.master_weights import NO_MASTERS, MasterWeights
from fastclip.train.optim import make_optimizer, moments_of
from fastclip.train.optimizer_step import OptimizerStep, StepOutcome
from fastclip.train.precision import TowerPrecision
from fastclip.train.progress import is_watched, progress_bar
from fastclip.train.ranks import Ranks
from fastclip.train.run_checkpoint import Progress, RunCheckpoints
from fastclip.train.run_config import RunConfig
from fastclip.train.run_contents import contents_of_run
from fastclip.train.run_data import RunData
from fastclip.train.run_log import RunLog
from fastclip.train.run_model import RunModel, make_model
from fastclip.train.same_run import OwnRun
from fastclip.train.schedule import learning_rate_at
from fastclip.train.sharding import gathered
from fastclip.train.step import CachedStep
from fastclip.train.step_report import StepReport, peak_bytes
from fastclip.train.trained_state import TrainedState

STOPPED = 143  # 128 + SIGTERM: what a shell says of a process that was told to stop


class Run:
    """Everything of a run on one rank.

    Args:
        config: the same on all ranks.
        directory: of the run; only the first rank writes.

    Raises:
        ValueError, OSError, RuntimeError: model, data or a checkpoint cannot be used as told.
    """

    def __init__(self, config: RunConfig, ranks: Ranks, directory: Path, log: RunLog) -> None:
        self.ranks, self.log = ranks, log
        self.arithmetic = config.arithmetic(ranks.world_size)
        self.precision = TowerPrecision(config.precision, ranks.device)
        # By their names, because both depend on the machine where they are not given.
        config = replace(config, precision=self.precision.name, device=ranks.device.type)
        self.config = config
        torch.manual_seed(config.seed)
        self.made: RunModel = make_model(config, self.precision.parameters)
        self.model = self.made.model
        self.data = RunData(config, self.made, ranks)
        self.steps_per_epoch = self.data.steps_per_epoch
        moments = moments_of(self.model)
        self.train_config = config.training(self.steps_per_epoch, ranks.world_size, moments)
        self._prepare_steps()
        # An average of the weights is evaluated in their place, and it is in float32.
        has_average = self.state.average is not None
        evaluated = self.precision.of_float32() if has_average else self.precision
        self.evaluator = Evaluator(
            ranks, self._prepare_for(evaluated), evaluated.autocast, self.made.tokenizer,
            self.arithmetic.micro_batch_size, log.warn,
        )  # fmt: skip
        own = OwnRun(
            config, self.train_config, moments, self.steps_per_epoch, ranks.world_size,
            to_json(self.model.config), contents_of_run(self.made, self.data, ranks, log.say),
        )  # fmt: skip
        self.checkpoints = RunCheckpoints(
            own, ranks, directory, log, self.state, self.data.train, self.compute
        )
        self.epoch = self.global_step = 0
        self.saved_at = time.monotonic()
        self.stop_asked = False
        torch.manual_seed(config.seed + 1 + ranks.rank)  # other dropout on every rank

    def train(self) -> int:
        """Train to the end, or until SIGTERM or SIGINT; return the exit status.

        Raises:
            FloatingPointError: a step may not be taken and not be left out, no step of an epoch
                was taken, or what is to be saved is not finite.
        """
        self.model.train()
        handlers = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._report_epoch_that_was_cut_off()
            while self.epoch < self.config.epochs:
                if not self._train_epoch():
                    return STOPPED
                self.epoch += 1
                self._after_epoch()
            self._require_steps(self.counts.taken, "the run")
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self.data.train.close()
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
            _standard_images, device=self.ranks.device, mean=self.made.mean, std=self.made.std,
            dtype=precision.input_dtype,
        )  # fmt: skip

    def _prepare_steps(self) -> None:
        config, scaler = self.config, self.precision.scaler()
        average = make_average(self.model, config.ema_decay, config.fsdp)
        for model in [self.model] if average is None else [self.model, average.module]:
            place(model, self.ranks, config.fsdp)
        if config.torchcompile:
            self.model.compile()
        has_masters = self.precision.has_masters
        masters = MasterWeights(self.model.named_parameters()) if has_masters else NO_MASTERS
        optimizer = make_optimizer(self.model, self.train_config, masters)
        self.compute = CachedStep(
            wrap(self.model, self.ranks),
            self._loss(),
            self.arithmetic.micro_batch_size,
            config.activation_budget,
            autocast=self.precision.autocast,
            scaler=scaler,
            prepare=self._prepare_for(self.precision),
        )
        self.take_step = OptimizerStep(self.compute, optimizer, self.train_config, average, masters)
        self.counts = self.take_step.counts
        self.state = TrainedState(self.model, optimizer, scaler, average, masters, self.counts)

    def _train_epoch(self) -> bool:
        """The rest of an epoch; False if it was told to stop, and has saved."""
        losses, started = [], time.perf_counter()
        num = self.arithmetic.num_micro_batches
        batches: list[tuple[Tensor, Tensor]] = []
        done = self.global_step - self.epoch * self.steps_per_epoch
        shown = self.ranks.is_first and is_watched()
        title = f"epoch {self.epoch}"
        with progress_bar(self.steps_per_epoch, done, title, shown=shown) as advance:
            for images, tokens, _ in self.data.train:
                batches.append((images, tokens.to(self.ranks.device, non_blocking=True)))
                if len(batches) < num:
                    continue
                data_seconds = time.perf_counter() - started
                outcome = self.take_step(batches, self.global_step)
                self.global_step += 1
                batches = []
                if outcome.objection is not None:
                    self.log.warn(outcome.objection)
                losses += [outcome.loss] if math.isfinite(outcome.loss) else []
                self._log_step(outcome, losses, data_seconds, time.perf_counter() - started)
                advance(1, f"loss {outcome.loss:.4f}")
                if not self._save_if_due():
                    return False
                started = time.perf_counter()
        return True

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
                world_size=self.ranks.world_size,
                data_seconds=data_seconds,
                seconds=seconds,
                learning_rate=learning_rate_at(self.global_step - 1, self.train_config),
                logit_scale=outcome.logit_scale,
                loss=outcome.loss,
                mean_loss=sum(losses) / len(losses) if losses else math.nan,
                peak_bytes=peak_bytes(self.ranks.device),
                gradient_norm=outcome.gradient_norm,
                num_left_out=self.counts.left_out,
            )
        )

    def _save_if_due(self) -> bool:
        """Save where it is time to, on all ranks at once; False if the run is to stop."""
        config = self.config
        every, minutes = config.save_every_steps, config.save_every_minutes
        due = every is not None and self.global_step % every == 0
        if minutes is not None and self.ranks.is_first:
            due = due or time.monotonic() - self.saved_at > 60 * minutes
        due, stop = self.ranks.any([due, self.stop_asked])
        # The end of an epoch saves for itself.
        if stop or (due and self.global_step % self.steps_per_epoch):
            self._save()
        if stop:
            self.log.say(f"told to stop: saved after step {self.global_step}; --resume latest")
        return not stop

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
        if is_at_end and not self.ranks.share(self.log.has_epoch(self.epoch)):
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
                loader = data.validation_loader()
                metrics |= self.evaluator.retrieval(model, loader)
                if (said := repeats(metrics)) is not None:
                    self.log.say(f"in validation {said}")
                bad = bad.merge(self._account_of(loader))
            for task in data.tasks if self._is_due(self.config.zeroshot_frequency) else ():
                loader = data.task_loader(task)
                metrics |= self.evaluator.zero_shot(model, task, loader)
                bad = bad.merge(self._account_of(loader))
        self.model.train()
        return metrics, bad

    def _account_of(self, loader: PairLoader) -> BadSamples:
        """Of the bad samples of all ranks, on the first; an empty one on others."""
        accounts = self.ranks.gather(loader.bad_samples) or []
        return functools.reduce(BadSamples.merge, accounts, BadSamples())

    def _is_due(self, frequency: int) -> bool:
        return bool(frequency) and (self.epoch % frequency == 0 or self._is_last_epoch)

    @property
    def _is_last_epoch(self) -> bool:
        return self.epoch == self.config.epochs

    def _save(self, names: Sequence[str] = ()) -> None:
        self.checkpoints.save(Progress(self.epoch, self.global_step), names)
        self.saved_at = time.monotonic()

    def _names_of_epoch(self) -> list[str]:
        """Under which the checkpoint of an epoch stays."""
        keep = self._is_due(self.config.save_frequency) or self._is_last_epoch
        names = [f"epoch_{self.epoch}.pt"] if keep else []
        return names + (["epoch_latest.pt"] if self.config.save_most_recent else [])

    def _ask_to_stop(self, number: int, frame: object) -> None:
        self.stop_asked = True

    def _loss(self) -> nn.Module:
        settings = {"backend": self.config.backend, "schedule": self.config.loss_schedule}
        return SigLipLoss(**settings) if self.config.siglip else ClipLoss(**settings)


def _standard_images(
    images: Tensor,
    device: torch.device,
    mean: float | tuple[float, ...],
    std: float | tuple[float, ...],
    dtype: torch.dtype,
) -> Tensor:
    pixels = images.to(device, non_blocking=True)
    return standardize(pixels, mean, std).to(dtype)
