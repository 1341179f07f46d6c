"""Any two encoders as a contrastive model: keys `visual.*`, `text.*`, `logit_scale`.

SigLIP's models are of this kind, and so is every pair that a user puts together from timm models,
Hugging Face models or any `nn.Module`. `EncoderTower` takes one feature vector per sample from an
encoder's output, and projects it into the shared space.
"""

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

from torch import Tensor, nn

from fastclip.models.clip_config import DEFAULT_LOGIT_SCALE, ClipConfig
from fastclip.models.contrastive_model import ContrastiveModel, TowerOutput, intermediates_of
from fastclip.models.encoder_tower import EncoderTower
from fastclip.models.parts.layers import Intermediates


class TwoTower(ContrastiveModel):
    """Two encoders with features in one shared space.

    Args:
        image_encoder: called with a batch of images.
        text_encoder: called with a batch of texts: (B, T) tokens, or a mapping of tensors, such as
            a Hugging Face tokenizer returns, which is passed by name.
        embed_dim: the dimension of the shared space, into which both are projected, linearly and
            without bias (see `EncoderTower`); None if the encoders return it already.
        init_logit_scale: natural logarithm; ln(1/0.07) as CLIP, ln(10) for SigLIP.
        init_logit_bias: None as CLIP, -10 for SigLIP.
        output_dict: whether `forward` returns a dict instead of a tuple.
        nonscalar_logit_scale: the scale and the bias have the shape (1,) instead of ().

    Raises:
        ValueError: `embed_dim` is given and the width of an encoder's output cannot be determined.

    Example:
        >>> model = TwoTower(timm.create_model("resnet50", num_classes=0), bert, embed_dim=512)
        >>> fastclip.save_pretrained(model, "pair")
        >>> again = TwoTower.from_pretrained("pair")
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        embed_dim: int | None = None,
        init_logit_scale: float = DEFAULT_LOGIT_SCALE,
        init_logit_bias: float | None = None,
        output_dict: bool = False,
        nonscalar_logit_scale: bool = False,
    ) -> None:
        super().__init__()
        if embed_dim is not None:
            image_encoder = _tower(image_encoder, embed_dim)
            text_encoder = _tower(text_encoder, embed_dim)
        self.visual = image_encoder
        self.text = text_encoder
        self._add_scale(init_logit_scale, init_logit_bias, output_dict, nonscalar_logit_scale)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | PathLike,
        image_encoder: nn.Module | None = None,
        text_encoder: nn.Module | None = None,
    ) -> "TwoTower":
        """Load a model that `save_pretrained` wrote, in training mode and on the CPU.

        Args:
            image_encoder, text_encoder: the encoders that the model was made with; their weights
                are then loaded. They are needed if they are neither timm's nor transformers', or
                were changed after they had been made.

        Raises:
            FileNotFoundError: `directory` holds no `TwoTower`.
            CheckpointError: an encoder is needed and not given, or weights do not fit.
        """
        from fastclip.models.checkpoints.two_tower_directory import read_two_tower

        return read_two_tower(directory, image_encoder, text_encoder)

    @property
    def context_length(self) -> int:
        return self.text.context_length

    @property
    def vocab_size(self) -> int:
        return self.text.vocab_size

    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the text tower except for its last `unlocked_layers`."""
        self.text.lock(unlocked_layers, freeze_layer_norm)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Save the memory of each block's activations by computing them again in the backward."""
        self.visual.set_grad_checkpointing(enable)
        self.text.set_grad_checkpointing(enable)

    def _text_features(self, text: Tensor | Mapping[str, Tensor]) -> TowerOutput:
        return self.text(text)

    def _text_intermediates(self, text: Tensor, **settings: Any) -> Intermediates:
        return intermediates_of(self.text, text, **settings)


class CustomTextCLIP(TwoTower):
    """A built-in pair whose text tower's keys begin with `text.`, as in open_clip's SigLIP models.

    Example:
        >>> isinstance(fastclip.create_model("ViT-B-16-SigLIP"), fastclip.CustomTextCLIP)
        True
    """

    def __init__(self, config: ClipConfig, output_dict: bool = False) -> None:
        super().__init__(
            config.vision_cfg.build(config.embed_dim),
            config.text_cfg.build(config.embed_dim),
            init_logit_scale=config.init_logit_scale,
            init_logit_bias=config.init_logit_bias,
            output_dict=output_dict,
            nonscalar_logit_scale=config.nonscalar_logit_scale,
        )
        self.config = config

    @property
    def text_lengths(self) -> Callable[[Tensor], Tensor]:
        """See `TextTower.text_lengths`.

        Raises:
            AttributeError: the text tower, or a wrapper in its place, has no such method.
        """
        return self.text.text_lengths


def _tower(encoder: nn.Module, embed_dim: int) -> nn.Module:
    return encoder if isinstance(encoder, EncoderTower) else EncoderTower(encoder, embed_dim)
