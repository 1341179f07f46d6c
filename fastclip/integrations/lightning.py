"""A LightningModule that takes cached steps: one loss over the batch of all ranks, however large.

Lightning wraps a whole module in DistributedDataParallel and synchronises gradients only in
`manual_backward`. A cached step computes gradients without it, and so must average them itself, or
the ranks would silently drift apart. This mixin averages them once per step.

    precision      "32-true", "64-true", "bf16-mixed", "16-mixed"; the loss is not in autocast
    strategy       one device, or "ddp" without communication hooks and model averaging, which are
                   refused. Buffers are not broadcast after the first step: each rank keeps its own
                   running statistics of batch normalisation, unless they are synchronised
    optimisers     one, with any number of schedulers that need no metric
    accumulation   refused: unlike a larger batch, it gives no pair more negatives

The mixin comes before LightningModule in a class's bases. This module imports nothing of Lightning.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fastclip.losses.clip import ClipLoss
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.model_call import Batch, call, length
from fastclip.train.step.step_result import call_loss

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")
OF_DDP = ("ddp_comm_hook", "ddp_comm_state", "ddp_comm_wrapper", "model_averaging_period")
STATE = "fastclip_cached_step"


class ContrastiveLightningMixin:
    """Gives a LightningModule its training and its validation step.

    Args:
        args: positional arguments of LightningModule.
        contrastive_loss: called with (image_features, text_features, logit_scale[, logit_bias]);
            None is `fastclip.ClipLoss`. Its parameters become the module's, and are trained if
            `configure_optimizers` includes them.
        micro_batch_size: pairs that are encoded at once by a rank.
        activation_budget: memory for the graphs of micro-batches, see `fastclip.CachedStep`.
        max_logit_scale: the largest logit scale. After every step, parameters called `logit_scale`,
            which are logarithms, are clamped between 0 and its logarithm; None does not clamp them.
        kwargs: further arguments of LightningModule.

    A batch is (images, texts), or anything that `images_and_texts` turns into such a pair. Each
    step logs `train_loss` and `logit_scale`; validation logs `val_loss`, the loss of each batch
    over all ranks.

    Raises:
        ValueError: an argument is out of its range; when training begins, the Trainer has a
            strategy, a precision or an accumulation that is not supported here, or there are
            several optimisers, or a scheduler that waits for a metric.

    Example:
        >>> class Clip(ContrastiveLightningMixin, lightning.LightningModule):
        ...     def __init__(self):
        ...         super().__init__(micro_batch_size=256)
        ...         self.net = fastclip.create_model("ViT-B-32")
        ...     def forward(self, images, tokens):
        ...         return self.net(images, tokens)
        ...     def configure_optimizers(self):
        ...         return torch.optim.AdamW(self.parameters(), lr=5e-4)
        >>> lightning.Trainer(strategy="ddp", devices=8, precision="bf16-mixed").fit(Clip(), loader)
    """

    def __init__(
        self,
        *args: Any,
        contrastive_loss: nn.Module | Callable[..., Tensor] | None = None,
        micro_batch_size: int,
        activation_budget: str | float = 0,
        max_logit_scale: float | None = 100.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if max_logit_scale is not None and not 1 <= max_logit_scale < float("inf"):
            raise ValueError(
                f"max_logit_scale must be finite and at least 1, or None, got {max_logit_scale}"
            )
        self.automatic_optimization = False
        self.contrastive_loss = ClipLoss() if contrastive_loss is None else contrastive_loss
        self.max_logit_scale = max_logit_scale
        self._step = CachedStep(
            self, self.contrastive_loss, micro_batch_size, activation_budget, self._autocast
        )

    def images_and_texts(self, batch: Any) -> tuple[Batch, Batch]:
        """Return the arguments of `forward` from a batch; override it for other kinds of batches.

        Raises:
            ValueError: the batch is not a pair.
        """
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(
                f"a batch must be (images, texts), got {type(batch).__name__}; override "
                "images_and_texts to turn it into that"
            )
        return batch[0], batch[1]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Take one step of the optimiser; return the loss, (), detached."""
        self._require_obeyed()
        optimizer = self.optimizers()
        images, texts = self.images_and_texts(batch)
        optimizer.zero_grad()
        self._step.scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        with torch.autocast(self.device.type, enabled=False):
            result = self._step(images, texts)
        optimizer.step()
        self._limit_scale()
        self._step_schedulers(batch_idx)
        shown = {"train_loss": result.loss, "logit_scale": result.logit_scale}
        self.log_dict(shown, prog_bar=True, batch_size=length(images))
        return result.loss

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, (); all ranks must have the same number of batches."""
        images, texts = self.images_and_texts(batch)
        outputs = call(self, images, texts)
        with torch.autocast(self.device.type, enabled=False):
            _, loss, _ = call_loss(self.contrastive_loss, outputs)
        # All ranks have the same value, and need the same weight: Lightning's means over ranks are
        # wrong if ranks give different weights.
        num = int(self.all_gather(torch.tensor(length(images), device=loss.device)).sum())
        self.log("val_loss", loss, prog_bar=True, batch_size=num, sync_dist=True)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[STATE] = self._step.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if STATE in checkpoint:
            self._step.load_state_dict(checkpoint[STATE])

    def _autocast(self) -> Any:
        return self.trainer.precision_plugin.forward_context()

    def _limit_scale(self) -> None:
        if self.max_logit_scale is None:
            return
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.rpartition(".")[2] == "logit_scale":
                    parameter.clamp_(0, math.log(self.max_logit_scale))

    def _step_schedulers(self, batch_idx: int) -> None:
        """Step the schedulers, as Lightning does: manual optimisation leaves them to the module."""
        trainer = self.trainer
        for config in trainer.lr_scheduler_configs:
            if config.interval == "step":
                is_due = (batch_idx + 1) % config.frequency == 0
            else:
                is_due = trainer.is_last_batch and (self.current_epoch + 1) % config.frequency == 0
            if is_due:
                self.lr_scheduler_step(config.scheduler, None)

    def _require_obeyed(self) -> None:
        trainer = self.trainer
        optimizers = self.optimizers()
        # By class: in manual optimisation Lightning does not set `reduce_on_plateau`.
        schedulers = [c.scheduler for c in trainer.lr_scheduler_configs]
        waiting = [type(s).__name__ for s in schedulers if isinstance(s, ReduceLROnPlateau)]
        strategy = type(trainer.strategy).__name__
        given = vars(trainer.strategy)
        of_ddp = [name for name in OF_DDP if given.get(f"_{name}") is not None]
        for is_right, name, value, allowed in (
            (trainer.accumulate_grad_batches == 1, "accumulate_grad_batches",
             trainer.accumulate_grad_batches, "1; a larger batch gives pairs more negatives"),
            (strategy in STRATEGIES, "strategy", strategy, f"one of {', '.join(STRATEGIES)}"),
            (str(trainer.precision) in PRECISIONS, "precision", trainer.precision,
             f"one of {', '.join(PRECISIONS)}"),
            (not isinstance(optimizers, list), "configure_optimizers", optimizers,
             "of one optimiser"),
            (not waiting, "lr_scheduler", waiting, "none that waits for a metric"),
            (not of_ddp, "strategy", of_ddp,
             f"without {', '.join(OF_DDP)}, as gradients are averaged by the cached step"),
        ):  # fmt: skip
            if not is_right:
                raise ValueError(f"{name} must be {allowed}, got {value!r}")
