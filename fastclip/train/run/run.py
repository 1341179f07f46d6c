"""A training run: model, data and optimiser, step after step, until it ends or a signal stops it.

A run is a function of its settings: killed at any moment and resumed, it ends with the same
parameters as a run that was never killed, on a CPU to the bit. Every checkpoint contains what this
needs, see `run_checkpoints.py`.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from fastclip.counted import counted
from fastclip.data.loading.loader import Batch, BatchWithFacts
from fastclip.distributed.processes import Processes
from fastclip.evaluate.evaluator import Evaluator
from fastclip.models.open_clip_config import to_json
from fastclip.models.tower_precision import TowerPrecision
from fastclip.progress import is_watched, progress_bar
from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.checkpoints.same_run import OwnRun
from fastclip.train.log.epoch_numbers import EpochNumbers
from fastclip.train.log.run_log import RunLog
from fastclip.train.log.step_progress import Pace, StepProgress
from fastclip.train.log.step_report import StepReport, peak_bytes
from fastclip.train.run.batch_curves import BatchCurves
from fastclip.train.run.best_epoch import EVALUATED_ON, BestEpoch
from fastclip.train.run.contents import contents_of_run
from fastclip.train.run.data import TrainingData, facts_of
from fastclip.train.run.duplicates import kept_ids
from fastclip.train.run.evaluation import RunEvaluation, account_of
from fastclip.train.run.evaluation_data import EvaluationData
from fastclip.train.run.loss import LossFactory
from fastclip.train.run.loss import make_loss as make_told_loss
from fastclip.train.run.model import RunModel, make_model
from fastclip.train.run.pixels import preparation
from fastclip.train.run.saving import Saving
from fastclip.train.run.step_batch import StepBatch, of_batch, step_batch
from fastclip.train.run.stepping import make_stepping
from fastclip.train.run.stop_signals import StopSignals, ToldToStop
from fastclip.train.run.stored_teachers import open_stored_teachers
from fastclip.train.run.teachers import open_teachers
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.optimizer import moments_of
from fastclip.train.step.optimizer_step import StepOutcome
from fastclip.train.step.schedule import learning_rate_at


class Run:
    """A training run on one rank.

    Args:
        config: the same on all ranks.
        directory: of the run; only the first rank writes.
        make_loss: makes the loss, whose parameters are trained and whose state is in every
            checkpoint, see `fastclip.train.run.loss`. None makes the loss that the settings name.

    Raises:
        ValueError, OSError, RuntimeError: the model, the data or a checkpoint cannot be used as
            the settings ask.
    """

    def __init__(
        self,
        config: RunConfig,
        processes: Processes,
        directory: Path,
        log: RunLog,
        make_loss: LossFactory | None = None,
    ) -> None:
        self.processes, self.log = processes, log
        self.arithmetic = config.arithmetic(processes.world_size)
        self.precision = TowerPrecision(config.precision, processes.device)
        # Named explicitly, because the defaults of both depend on the machine.
        config = replace(config, precision=self.precision.name, device=processes.device.type)
        self.config = config
        torch.manual_seed(config.seed)
        self.run_model: RunModel = make_model(config, self.precision.parameters)
        self.model = self.run_model.model
        stored = open_stored_teachers(config)
        self.data = TrainingData(
            config, self.run_model, processes, self.arithmetic, config.seed,
            facts=facts_of(config, has_own_loss=make_loss is None), beside=stored,
        )  # fmt: skip
        self.loss = (
            make_told_loss(config, self.model, self.data.num_samples)
            if make_loss is None
            else make_loss(config, self.model)
        )
        self.teachers = open_teachers(config, self.run_model, processes, self.precision, stored)
        self.evaluation_data = EvaluationData(
            config, self.run_model, processes, self.arithmetic.micro_batch_size, config.seed
        )
        self.steps_per_epoch = self.data.steps_per_epoch
        moments = moments_of(self.model)
        self.train_config = config.training(self.steps_per_epoch, processes.world_size, moments)
        self.compute, self.take_step, self.state, self.key_encoder = make_stepping(
            config, self.train_config, self.run_model, self.loss, self.precision, processes
        )
        self.counts = self.take_step.counts
        self.progress = StepProgress(
            log.say, self.arithmetic.num_micro_batches, lambda: self.compute.num_kept
        )
        self.compute.before_encoding = self.progress.encoded
        self.curves = BatchCurves(config, self.loss, processes, directory, log)
        self.signals = StopSignals(processes)
        # An average of the weights is evaluated in their place, and it is in float32.
        has_average = self.state.average is not None
        evaluated = self.precision.of_float32() if has_average else self.precision
        evaluator = Evaluator(
            processes, preparation(self.run_model, processes.device, evaluated),
            evaluated.autocast, self.run_model.tokenizer, self.arithmetic.micro_batch_size,
            log.warn, self.signals.obey,
        )  # fmt: skip
        self.evaluation = RunEvaluation(config, self.evaluation_data, evaluator, processes, log.say)
        own = OwnRun(
            config, self.train_config, moments, self.steps_per_epoch, processes.world_size,
            to_json(self.model.config),
            contents_of_run(
                self.run_model, self.data, self.evaluation_data, self.teachers, processes, log.say
            ),
            getattr(self.model.visual, "preprocess_cfg", None),
        )  # fmt: skip
        self.numbers, self.pace = EpochNumbers(), Pace()
        self.checkpoints = RunCheckpoints(
            own, processes, directory, log, self.state, self.data.loader, self.compute,
            self.numbers,
        )  # fmt: skip
        self.config = self.checkpoints.config
        self.saving = Saving(config, self.checkpoints)
        self.best = BestEpoch(config, self.evaluation_data, self.checkpoints, log, own.contents)
        self.epoch = self.global_step = 0
        torch.manual_seed(config.seed + 1 + processes.rank)  # other dropout on every rank

    def train(self) -> int:
        """Train to the end, or until a signal of `stop_signals.py`; return the exit status.

        Raises:
            FloatingPointError: a step is not finite and may not be skipped, no step of an epoch
                was taken, or the state to be saved is not finite.
        """
        self.model.train()
        self.checkpoints.keep_place()
        with self.signals, contextlib.closing(self.data.loader):
            try:
                self._report_epoch_that_was_cut_off()
                while self.epoch < self.config.epochs:
                    self._train_epoch()
                    self.epoch += 1
                    self._after_epoch()
            except ToldToStop as told:
                self.saving.save_what_is_not(self._progress)
                self.log.say(
                    f"{told.signal.name} has stopped the run: a checkpoint is saved after step "
                    f"{self.global_step}, and --resume latest continues from it"
                )
                return told.status
        self.counts.require_taken(self.counts.taken, "the run")
        return 0

    def resume(self, path: str) -> None:
        """Go to the step after which a checkpoint was written; see `RunCheckpoints.restore`."""
        self.epoch, self.global_step = self.checkpoints.restore(path)
        self.config, self.train_config = self.checkpoints.config, self.checkpoints.training
        self.take_step.config = self.train_config
        if self.processes.is_first:
            self.best.restore()

    def _train_epoch(self) -> None:
        """Train the rest of an epoch."""
        done = self.global_step - self.epoch * self.steps_per_epoch
        if done == 0:
            self.numbers.begin()
        shown = self.processes.is_first and is_watched()
        title = f"epoch {self.epoch}"
        loaded = iter(self.data.loader)
        with progress_bar(self.steps_per_epoch, done, title, shown=shown) as advance:
            for _ in range(done, self.steps_per_epoch):
                started = time.perf_counter()
                self.progress.begin(self.global_step + 1)
                batch = self._next_batch(loaded)
                data_seconds = time.perf_counter() - started
                of_loss, counts = of_batch(batch, self.processes, kept_ids(self.loss))
                if self.teachers is not None:
                    of_loss |= self.teachers(batch)
                if self.key_encoder is not None:
                    of_loss |= self.key_encoder(batch.pairs)
                with self.curves.of_step(self.global_step + 1):
                    outcome = self.take_step(batch.pairs, self.global_step, **of_loss)
                self.global_step += 1
                self.checkpoints.keep_place()
                if outcome.objection is not None:
                    self.log.warn(outcome.objection)
                self.numbers.means.take(outcome.loss, outcome.terms)
                seconds = time.perf_counter() - started
                self.pace.take(seconds)
                self._log_step(outcome, counts, data_seconds, seconds)
                advance(1, f"loss {outcome.loss:.4f}")
                is_last = self.global_step % self.steps_per_epoch == 0
                # The end of an epoch saves anyway.
                if self.saving.is_due_after(self.global_step) and not is_last:
                    self.saving.save(self._progress)
        next(loaded, None)  # the loader counts the epoch
        self.checkpoints.keep_place()

    def _next_batch(self, loaded: Iterator[Batch | BatchWithFacts]) -> StepBatch:
        """Return the next batch once all ranks have theirs, and save a checkpoint if one is due.

        Raises:
            ToldToStop: a signal ends the run; this rank's saved place is from before this call.
        """

        def fetch() -> StepBatch:
            micro_batches = islice(loaded, self.arithmetic.num_micro_batches)
            return step_batch(self.progress.reading(micro_batches), self.processes.device)

        is_late = self.processes.is_first and self.saving.is_late(self.global_step)
        batch, (is_due,) = self.signals.obey_and_exchange(fetch, [is_late])
        if is_due:
            self.saving.save(self._progress)
        return batch

    def _log_step(
        self, outcome: StepOutcome, counts: dict[str, int], data_seconds: float, seconds: float
    ) -> None:
        in_epoch = self.global_step - self.epoch * self.steps_per_epoch
        is_last = in_epoch == self.steps_per_epoch
        if in_epoch % self.config.log_every_n_steps and not is_last and in_epoch != 1:
            return
        size = self.arithmetic.global_batch_size
        report = StepReport(
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
            mean_loss=self.numbers.means.loss,
            terms=outcome.terms,
            mean_terms=self.numbers.means.terms,
            peak_bytes=peak_bytes(self.processes.device),
            gradient_norm=outcome.gradient_norm,
            num_left_out=self.counts.left_out,
            counts=counts,
            seconds_left=self.pace.seconds_of(self.train_config.steps - self.global_step),
        )
        self.log.step(report)
        self.numbers.curve.take(report)

    def _after_epoch(self) -> None:
        num_taken = self.counts.taken_in_epoch
        self.counts.begin_epoch()
        # An epoch without a step keeps no checkpoint of its own, but the loss scale is saved.
        names = self.saving.names_of_epoch(self.epoch, self._is_last_epoch) if num_taken else []
        self.saving.save(self._progress, names)
        if self.epoch == 1 and self.processes.is_first:
            said = self.saving.disk_of_epochs(self.config.epochs)
            if said is not None:
                self.log.say(said)
        self.counts.require_taken(num_taken, f"epoch {self.epoch}")
        self._report_epoch()

    def _report_epoch(self) -> None:
        bad = account_of(self.data.loader, self.processes)
        self.log.say(
            f"finished {self.epoch} of {counted(self.config.epochs, 'epoch')}; so far, "
            f"{self.counts.summary()}; {bad.summary()}"
        )
        values: dict[str, Any] = {
            "epoch": self.epoch, "global_step": self.global_step, "steps": self.counts.totals(),
            "bad_samples": bad.to_dict(), **self.curves.newest(), **self.numbers.of_epoch(),
        }  # fmt: skip
        average = self.state.average
        evaluated = self.model if average is None else average.module
        metrics, bad = self.evaluation.after_epoch(evaluated, self.epoch, self._is_last_epoch)
        self.model.train()
        if metrics:
            values |= {"val_bad_samples": bad.to_dict(), EVALUATED_ON: self.best.marks}
        if self.processes.is_first:
            self.best.take(self._progress, metrics)
        self.log.epoch(values, metrics)

    def _report_epoch_that_was_cut_off(self) -> None:
        """Report the last epoch if the run was killed between its checkpoint and its results."""
        is_at_end = self.epoch > 0 and self.global_step == self.epoch * self.steps_per_epoch
        if is_at_end and not self.processes.broadcast(self.log.has_epoch(self.epoch)):
            self._report_epoch()

    @property
    def _is_last_epoch(self) -> bool:
        return self.epoch == self.config.epochs

    @property
    def _progress(self) -> Progress:
        return Progress(self.epoch, self.global_step)
