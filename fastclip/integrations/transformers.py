"""transformers' Trainer for contrastive models, with one loss over the batch of all ranks.

    -from transformers import Trainer
    +from fastclip.integrations.transformers import ContrastiveTrainer

The models' own loss is over the batch of one rank alone. `Trainer(compute_loss_func=...)` is not
the way to replace it: for batches without labels the Trainer adds up gradients over accumulation
steps instead of averaging them, so that with four steps they are four times too large. This class
declares that its loss is a mean (`loss_is_scaled_for_ga`).

    micro_batch_size None     one forward pass of the batch, as the Trainer does it
    micro_batch_size m        a cached step: it encodes m pairs at a time, with one loss over all

An evaluation outputs features, (B, D), and not B x B logits.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from fastclip.integrations.accelerate import cached_step, require_whole_weights
from fastclip.integrations.host import import_host, joined
from fastclip.losses.clip import ClipLoss
from fastclip.losses.siglip import SigLipLoss
from fastclip.train.step.cached import CachedStep, StepResult
from fastclip.train.step.model_call import FEATURES, Batch, call
from fastclip.train.step.step_result import call_loss

OF_TEXTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
OF_HOST = ("return_loss", "skip_logits")  # options of a model's outputs, not inputs
LABELS = ("labels", "label", "label_ids")
NAME = "ContrastiveTrainer"


class ContrastiveTrainerMixin:
    """transformers' Trainer for CLIPModel, SiglipModel, VisionTextDualEncoderModel and the like.

    Args:
        args: positional arguments of `transformers.Trainer`.
        contrastive_loss: called with (image_features, text_features, logit_scale[, logit_bias]);
            None is `fastclip.SigLipLoss` for a model with a `logit_bias`, and `fastclip.ClipLoss`
            for others, over all ranks.
        micro_batch_size: pairs that are encoded at once in training; None is a rank's whole batch,
            `per_device_train_batch_size`.
        activation_budget: memory for the graphs of micro-batches, see `fastclip.CachedStep`.
        kwargs: further arguments of `transformers.Trainer`.

    Inputs are tensors with a row per pair, under the argument names of the model's forward;
    `return_loss` and `skip_logits` have no effect, and labels are refused. Set
    `remove_unused_columns=False` if the data set's columns have other names.

    Raises:
        ValueError: an argument of the Trainer is not supported, such as `compute_loss_func`, label
            smoothing or a sharded model; the loss has parameters, which the Trainer would not
            train; `micro_batch_size` or the budget is out of its range.

    Warns:
        UserWarning: `gradient_accumulation_steps` > 1. Accumulation averages the losses of smaller
            batches, each with only its own few negatives.

    Example:
        >>> trainer = ContrastiveTrainer(
        ...     model=transformers.CLIPModel.from_pretrained("openai/clip-vit-base-patch32"),
        ...     args=transformers.TrainingArguments("out", per_device_train_batch_size=4096),
        ...     train_dataset=pairs, micro_batch_size=128)
        >>> trainer.train()
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *args: Any,
        contrastive_loss: nn.Module | Callable[..., Tensor] | None = None,
        micro_batch_size: int | None = None,
        activation_budget: str | float = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if micro_batch_size is None and activation_budget != 0:
            raise ValueError(
                f"activation_budget={activation_budget!r} needs a micro_batch_size, got None"
            )
        if contrastive_loss is None:
            has_bias = getattr(self.model, "logit_bias", None) is not None
            contrastive_loss = SigLipLoss() if has_bias else ClipLoss()
        self.contrastive_loss = contrastive_loss
        self.micro_batch_size = micro_batch_size
        self.activation_budget = activation_budget
        self.label_names = []  # an evaluation has a loss without labels
        self.can_return_loss = True
        self._require_obeyed()
        require_whole_weights(self.accelerator)
        self._cached: CachedStep | None = None
        if micro_batch_size is not None:
            self._cached = self._cached_step(self.model)
        if self.args.gradient_accumulation_steps > 1:
            warnings.warn(
                f"gradient_accumulation_steps={self.args.gradient_accumulation_steps} gives no "
                "pair more negatives: each loss is over per_device_train_batch_size="
                f"{self.args.per_device_train_batch_size} pairs of every rank. For more negatives, "
                "take a larger batch with a micro_batch_size (fastclip.CachedStep)",
                stacklevel=2,
            )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, (), and if `return_outputs` image_embeds and text_embeds, (B, D)."""
        outputs = call(model, *_sides(inputs))
        _, loss, _ = call_loss(self.contrastive_loss, outputs)
        if not return_outputs:
            return loss
        return loss, {theirs: outputs[name] for name, theirs in FEATURES.items()}

    def training_step(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Add a batch's gradients to the parameters' gradients; return its part of the loss."""
        if self._cached is None:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        if callable(getattr(self.optimizer, "train", None)):  # an optimiser without a schedule
            self.optimizer.train()
        if self._cached.model is not model:  # it was wrapped
            self._cached = self._cached_step(model)
        result: StepResult = self._cached(*_sides(self._prepare_inputs(inputs)))
        return result.loss / self.current_gradient_accumulation_steps

    def prediction_step(
        self, model: nn.Module, inputs: Mapping[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[Any, Any, Any]:
        """As the Trainer's, but always with the loss, whatever `return_loss` a batch has."""
        inputs = {name: value for name, value in inputs.items() if name not in OF_HOST}
        return super().prediction_step(model, inputs, *args, **kwargs)

    def _cached_step(self, model: nn.Module) -> CachedStep:
        return cached_step(
            self.accelerator, model, self.contrastive_loss, self.micro_batch_size,
            self.activation_budget, parts=lambda: self.current_gradient_accumulation_steps,
        )  # fmt: skip

    def _require_obeyed(self) -> None:
        """Raise ValueError if an argument would have no effect, or a wrong effect."""
        args, loss = self.args, self.contrastive_loss
        trained = [p for p in loss.parameters() if p.requires_grad] if _is_module(loss) else []
        config = args.accelerator_config
        is_cut = self.micro_batch_size is not None
        uneven = args.world_size > 1 and config is not None and config.even_batches is False
        for is_wrong, name, value, why in (
            (self.compute_loss_func, "compute_loss_func", self.compute_loss_func,
             "be given as contrastive_loss, because the Trainer scales this one wrongly without "
             "labels"),
            (self.loss_is_scaled_for_ga is not False, "loss_is_scaled_for_ga",
             self.loss_is_scaled_for_ga, "be False, because the loss is the mean of a batch"),
            (args.label_smoothing_factor, "label_smoothing_factor", args.label_smoothing_factor,
             "be 0, because there are no labels; fastclip.ClipLoss has label_smoothing"),
            (args.label_names, "label_names", args.label_names,
             "be None, because there are no labels"),
            (args.n_gpu > 1, "n_gpu", args.n_gpu,
             "be at most 1: start one process per GPU, as torchrun does"),
            (trained, "contrastive_loss", type(loss).__name__,
             "have no parameters, because the Trainer trains only the model's"),
            (uneven, "accelerator_config.even_batches", False,
             "be True, because all ranks compute each loss together"),
            (is_cut and args.torch_empty_cache_steps, "torch_empty_cache_steps",
             args.torch_empty_cache_steps, "be None with a micro_batch_size"),
            (is_cut and "lomo" in str(args.optim).lower(), "optim", args.optim,
             "be another one with a micro_batch_size, because this one computes its own gradients"),
        ):  # fmt: skip
            if is_wrong:
                raise ValueError(f"{name} must {why}, got {value!r}")


def __getattr__(name: str) -> type:
    if name != NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    host = import_host("transformers", "transformers-trainer")
    return joined(globals(), name, ContrastiveTrainerMixin, host.Trainer)


def _sides(inputs: Mapping[str, Any]) -> tuple[Batch, Batch]:
    """Return the inputs of the image tower, and the inputs of the text tower.

    Raises:
        ValueError: an input does not have a row per pair, or is a label.
    """
    given = {k: v for k, v in inputs.items() if k not in OF_HOST and v is not None}
    for name in LABELS:
        if name in given:
            raise ValueError(
                f"inputs must not have {name!r}, because the loss has no labels: a text belongs to "
                "the image of its row. Remove columns with these names from the data set: "
                f"{', '.join(LABELS)}"
            )
    for name, value in given.items():
        if not isinstance(value, Tensor) or value.ndim == 0:
            raise ValueError(
                f"inputs[{name!r}] must be a tensor with a row per pair, got {type(value).__name__}"
            )
    texts = {name: given.pop(name) for name in OF_TEXTS if name in given}
    if not texts or not given:
        raise ValueError(
            f"inputs must have input_ids and pixel_values, got {sorted(inputs)}; check the "
            "collator and remove_unused_columns, which decide this"
        )
    return given, texts


def _is_module(loss: object) -> bool:
    return isinstance(loss, nn.Module)
