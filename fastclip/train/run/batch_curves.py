"""Computes, every so many steps, what the loss of a step would have been in every smaller batch.

The curve is computed from the features of all ranks with which the step calls its loss. It has no
effect on the step: there is no gradient, and no random number is drawn.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastclip.batch_curve import BatchCurve, clip_batch_curve
from fastclip.distributed.processes import Processes
from fastclip.train.log.curve_figure import curve_figure, sentence
from fastclip.train.log.run_log import RunLog
from fastclip.train.settings.idle import idle_settings
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.gradient_sync import unwrapped
from fastclip.train.step.model_call import OF_PAIRS

FIGURE = "batch_curve.png"


class BatchCurves:
    """The batch curves of a run since it was started, on one rank.

    Args:
        loss: of the run, which is called once per step with the features of this rank.
        directory: of the run; the first rank writes `batch_curve.png` there, if matplotlib is
            installed.
        log: receives each curve as a line, and reports its numbers.
    """

    def __init__(
        self, config: RunConfig, loss: nn.Module, processes: Processes, directory: Path, log: RunLog
    ) -> None:
        is_idle = "batch_curve_every" in idle_settings(config)
        self.every = None if is_idle else config.batch_curve_every
        self.backend = config.backend
        self.loss, self.processes, self.log = unwrapped(loss), processes, log
        self.figure = directory / FIGURE if processes.is_first else None
        self.curves: dict[int, BatchCurve] = {}  # by step; their losses are on the CPU

    @contextlib.contextmanager
    def of_step(self, number: int) -> Iterator[None]:
        """Take step `number`, from 1, in this context; log its curve at exit if one is due."""
        if self.every is None or number % self.every:
            yield
            return
        found: list[BatchCurve] = []

        def look(loss: nn.Module, inputs: tuple, by_name: dict[str, Any]) -> None:
            if not found:
                told = inputs or [by_name[name] for name in OF_PAIRS[:3]]
                found.extend(self._curve(*told[:3]))

        hook = self.loss.register_forward_pre_hook(look, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
        for curve in found:
            self._take(number, curve._replace(losses=curve.losses.cpu()))

    def newest(self) -> dict[str, Any]:
        """Return the last curve for the results of an epoch; empty if there is none."""
        if not self.curves:
            return {}
        step, curve = list(self.curves.items())[-1]
        return {"batch_curve": {"global_step": step} | curve._asdict()
                | {"losses": curve.losses.tolist()}}  # fmt: skip

    @torch.no_grad()
    def _curve(self, images: Tensor, texts: Tensor, logit_scale: Tensor) -> list[BatchCurve]:
        """Compute the curve on the first rank; all ranks call this together."""
        images, texts = (self._of_all_ranks(x.detach()) for x in (images, texts))
        if not self.processes.is_first:
            return []
        scale = logit_scale.detach()
        return [clip_batch_curve(images, texts, scale, backend=self.backend)]

    def _of_all_ranks(self, features: Tensor) -> Tensor:
        if self.processes.world_size == 1:
            return features
        everyone = [torch.empty_like(features) for _ in range(self.processes.world_size)]
        dist.all_gather(everyone, features.contiguous())  # every rank has equally many in a step
        return torch.cat(everyone)

    def _take(self, number: int, curve: BatchCurve) -> None:
        if not curve.losses.isfinite().all():
            self.log.warn(f"there is no batch curve of step {number}, as its loss is not finite")
            return
        self.curves[number] = curve
        self.log.say(sentence(number, curve))
        named = zip(curve.batch_sizes, curve.losses.tolist(), strict=True)
        self.log.numbers({f"batch_curve/{size}": loss for size, loss in named}, number)
        if self.figure is None:
            return
        try:
            curve_figure(self.figure, self.curves)
        except ModuleNotFoundError as error:
            self.log.warn(f"batch curves are logged but not drawn: {error}")
            self.figure = None
        except OSError as error:
            self.log.warn(f"the batch curve of step {number} is logged but not drawn: {error}")
