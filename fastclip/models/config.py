"""The sizes of a model, with open_clip's names: plain values, kept with every checkpoint.

`open_clip_config.py` reads and writes them as open_clip's JSON.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastclip.data.limits import (
    LARGEST_VOCABULARY,
    LONGEST_CONTEXT,
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_PARAMETERS,
)
from fastclip.data.quoting import quoted
from fastclip.models.activations import require_activation
from fastclip.models.config_checks import (
    require_blocks,
    require_choice,
    require_exponents,
    require_flags,
    require_multiple,
    require_patch_dropout,
    require_patches,
    require_sizes,
    require_token,
)

DEFAULT_LOGIT_SCALE = math.log(1 / 0.07)
SIGLIP_LOGIT_SCALE, SIGLIP_LOGIT_BIAS = math.log(10), -10.0
TEXT_POOLS = ("argmax", "eos", "first", "last")
VISION_POOLS = ("tok", "avg")


@dataclass(frozen=True)
class VisionConfig:
    """A vision transformer: images of `image_size` cut into square patches.

    Attributes:
        image_size: height and width in pixels, or one number for both.
        patch_size: pixels.
        head_width: channels per attention head.
        mlp_ratio: hidden width of an MLP over `width`.
        activation: see `activations.py`.
        patch_dropout: fraction of patches dropped in training.
        pool_type: "tok" reads the class token, "avg" the mean of the patches.
        no_ln_pre: no normalisation before the first block.
        final_ln_after_pool: normalise the pooled token, not the tokens.
        ls_init_value: initial LayerScale, or None for none.
        channels: 3, or 1 for grey images.
        output_tokens: the tower returns the tokens of its patches along with its features.

    Raises:
        ValueError: a value is out of its range, the image is not a whole number of patches, or
            the width not a whole number of heads.
    """

    image_size: tuple[int, int]
    patch_size: int
    width: int
    layers: int
    head_width: int = 64
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    patch_dropout: float = 0.0
    pool_type: str = "tok"
    no_ln_pre: bool = False
    final_ln_after_pool: bool = False
    ls_init_value: float | None = None
    norm_eps: float = 1e-5
    channels: int = 3
    output_tokens: bool = False

    def __post_init__(self) -> None:
        require_sizes(patch_size=self.patch_size, width=self.width, head_width=self.head_width)
        require_sizes(MOST_LAYERS, layers=self.layers)
        require_sizes(MOST_CHANNELS, channels=self.channels)
        object.__setattr__(self, "image_size", require_patches(self.image_size, self.patch_size))
        require_multiple("width", self.width, "head_width", self.head_width)
        require_blocks(self.width, self.mlp_ratio, self.norm_eps)
        require_choice("pool_type", self.pool_type, VISION_POOLS)
        require_activation(self.activation)
        require_patch_dropout(self.patch_dropout)
        if self.ls_init_value is not None:
            require_exponents(ls_init_value=self.ls_init_value)
        require_flags(
            no_ln_pre=self.no_ln_pre, final_ln_after_pool=self.final_ln_after_pool,
            output_tokens=self.output_tokens,
        )  # fmt: skip

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @property
    def grid_size(self) -> tuple[int, int]:
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def num_patches(self) -> int:
        return math.prod(self.grid_size)


@dataclass(frozen=True)
class SiglipVisionConfig:
    """SigLIP's vision transformer, read out by attention: no class token, no projection.

    Raises:
        ValueError: as for `VisionConfig`.
    """

    image_size: tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    patch_dropout: float = 0.0
    norm_eps: float = 1e-6
    output_tokens: bool = False

    def __post_init__(self) -> None:
        require_sizes(patch_size=self.patch_size, width=self.width, heads=self.heads)
        require_sizes(MOST_LAYERS, layers=self.layers)
        # Pixels beyond the last whole patch are not read: SigLIP's 384 with patches of 14.
        size = require_patches(self.image_size, self.patch_size, whole=False)
        object.__setattr__(self, "image_size", size)
        require_multiple("width", self.width, "heads", self.heads)
        require_blocks(self.width, self.mlp_ratio, self.norm_eps)
        require_activation(self.activation)
        require_patch_dropout(self.patch_dropout)
        require_flags(output_tokens=self.output_tokens)

    @property
    def grid_size(self) -> tuple[int, int]:
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size


@dataclass(frozen=True)
class ResNetConfig:
    """CLIP's modified ResNet: four stages of bottlenecks, read out by attention.

    Raises:
        ValueError: `layers` are not four, a size is not positive, or the image is not a multiple
            of 32, what the stages divide it by.
    """

    image_size: tuple[int, int]
    layers: tuple[int, int, int, int]
    width: int
    head_width: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if len(self.layers) != 4:
            raise ValueError(f"layers must be four positive numbers, got {quoted(self.layers)}")
        require_sizes(
            MOST_LAYERS, **{f"layers[{i}]": layers for i, layers in enumerate(self.layers)}
        )
        require_sizes(width=self.width, head_width=self.head_width)
        object.__setattr__(self, "image_size", require_patches(self.image_size, 32))
        require_multiple("width * 32", self.width * 32, "head_width", self.head_width)

    @property
    def heads(self) -> int:
        return self.width * 32 // self.head_width

    @property
    def grid_size(self) -> tuple[int, int]:
        return self.image_size[0] // 32, self.image_size[1] // 32


@dataclass(frozen=True)
class TextConfig:
    """A text tower for texts of `context_length` tokens.

    Attributes:
        no_causal_mask: every token sees every other one.
        pool_type: which token is read: "argmax" the one of the largest id, OpenAI's end token;
            "eos" the first `eos_id`; "first"; "last".
        proj_type: "linear", or "none" to read the tower as it is.
        proj_bias: the projection is an `nn.Linear`.
        hf_tokenizer_name: Hugging Face name of its tokenizer, or the name of the directory that
            one lies in with the weights; None for OpenAI's.
        tokenizer_kwargs: what open_clip passes to that tokenizer.
        output_tokens: the tower returns its tokens along with its features.

    Raises:
        ValueError: a value is out of its range, or the width is not a whole number of heads.
    """

    context_length: int
    vocab_size: int
    width: int
    heads: int
    layers: int
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    no_causal_mask: bool = False
    pool_type: str = "argmax"
    eos_id: int = 2
    proj_type: str = "linear"
    proj_bias: bool = False
    ls_init_value: float | None = None
    norm_eps: float = 1e-5
    hf_tokenizer_name: str | None = None
    tokenizer_kwargs: dict = field(default_factory=dict)
    output_tokens: bool = False

    def __post_init__(self) -> None:
        require_sizes(width=self.width, heads=self.heads)
        require_sizes(LONGEST_CONTEXT, context_length=self.context_length)
        require_sizes(LARGEST_VOCABULARY, vocab_size=self.vocab_size)
        require_sizes(MOST_LAYERS, layers=self.layers)
        require_token(eos_id=self.eos_id)
        require_multiple("width", self.width, "heads", self.heads)
        require_blocks(self.width, self.mlp_ratio, self.norm_eps)
        require_choice("pool_type", self.pool_type, TEXT_POOLS)
        require_choice("proj_type", self.proj_type, ("linear", "none"))
        require_activation(self.activation)
        if self.ls_init_value is not None:
            require_exponents(ls_init_value=self.ls_init_value)
        require_flags(
            no_causal_mask=self.no_causal_mask, proj_bias=self.proj_bias,
            output_tokens=self.output_tokens,
        )  # fmt: skip
        if not isinstance(self.hf_tokenizer_name, (str, type(None))):
            raise ValueError(
                f"hf_tokenizer_name must be a name, got {quoted(self.hf_tokenizer_name)}"
            )
        if not isinstance(self.tokenizer_kwargs, Mapping):
            raise ValueError(
                f"tokenizer_kwargs must be settings by name, got {quoted(self.tokenizer_kwargs)}"
            )


@dataclass(frozen=True)
class ClipConfig(Mapping[str, Any]):
    """Both towers and the dimension of the space in which they meet.

    It also reads as open_clip's dict does: `config["vision_cfg"]["image_size"]`, `dict(config)`.

    Attributes:
        custom_text: the text tower's keys stand under `text.`, not at the top level.
        init_logit_scale: natural logarithm.
        init_logit_bias: None for a model without a bias.
        nonscalar_logit_scale: the scale and the bias have the shape (1,) instead of ().

    Raises:
        ValueError: `embed_dim` is not positive, or a tower without projection has another width.
    """

    embed_dim: int
    vision_cfg: VisionConfig | SiglipVisionConfig | ResNetConfig
    text_cfg: TextConfig
    custom_text: bool = False
    init_logit_scale: float = DEFAULT_LOGIT_SCALE
    init_logit_bias: float | None = None
    nonscalar_logit_scale: bool = False

    def __post_init__(self) -> None:
        require_sizes(embed_dim=self.embed_dim)
        require_exponents(init_logit_scale=self.init_logit_scale)
        if self.init_logit_bias is not None:
            require_exponents(init_logit_bias=self.init_logit_bias)
        require_flags(
            custom_text=self.custom_text, nonscalar_logit_scale=self.nonscalar_logit_scale
        )
        if self._num_parameters() > MOST_PARAMETERS:
            raise ValueError(
                f"the model would have {self._num_parameters():,} parameters, more than "
                f"{MOST_PARAMETERS:,}"
            )
        unprojected = []
        if isinstance(self.vision_cfg, SiglipVisionConfig):
            unprojected.append(("vision", self.vision_cfg.width))
        if self.text_cfg.proj_type == "none":
            unprojected.append(("text", self.text_cfg.width))
        for tower, width in unprojected:
            if width != self.embed_dim:
                raise ValueError(
                    f"the {tower} tower has no projection: its width {width} must be "
                    f"embed_dim {self.embed_dim}"
                )

    @property
    def activations(self) -> tuple[str | None, str]:
        """Of the vision tower, None for a ResNet, and of the text tower."""
        return getattr(self.vision_cfg, "activation", None), self.text_cfg.activation

    def _num_parameters(self) -> int:
        """About how many: those of matrices and of convolutions."""
        vision, text = self.vision_cfg, self.text_cfg
        num_positions = math.prod(vision.grid_size)
        num = text.vocab_size * text.width + num_positions * vision.width
        for tower in (vision, text):
            if isinstance(tower, ResNetConfig):
                widths = (tower.width * 2**stage for stage in range(4))
                num += sum(17 * n * width**2 for n, width in zip(tower.layers, widths, strict=True))
            else:
                num += int(tower.layers * tower.width**2 * (4 + 2 * tower.mlp_ratio))
        return num

    def __getitem__(self, name: str) -> Any:
        return self._as_json()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._as_json())

    def __len__(self) -> int:
        return len(self._as_json())

    def _as_json(self) -> dict[str, Any]:
        from fastclip.models.open_clip_config import to_json  # which is made of this module

        return to_json(self)
