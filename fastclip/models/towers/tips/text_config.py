"""The configuration of TIPS's text tower.

It is written in fastclip's own fields, with `pool_type` "mean".

Source: Maninis et al. 2025 (TIPS), arXiv:2410.16512.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from fastclip.data.limits import LARGEST_VOCABULARY, LONGEST_CONTEXT, MOST_LAYERS
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.correspondence import Correspondence
from fastclip.models.checkpoints.shapes import depth_of, sizes_of
from fastclip.models.open_clip_fields import NOT_HUGGING_FACE, TEXT, json_fields, names_of
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.towers.config_checks import (
    require_blocks,
    require_flags,
    require_multiple,
    require_sizes,
    require_token,
)
from fastclip.models.towers.text_config import TextTowerConfig
from fastclip.models.towers.tips.names import as_published

if TYPE_CHECKING:
    from fastclip.models.towers.tips.text import TipsTextTransformer

CONTEXT_LENGTH, VOCAB_SIZE = 64, 32000
BLOCK = ("ln_1", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")


@dataclass(frozen=True)
class TipsTextConfig(TextTowerConfig):
    """The configuration of TIPS's text tower, whose feature is the mean of a text's tokens.

    Every token sees all tokens that are not padding. MLPs have ReLU, positions are sinusoids, and
    there is no projection.

    Attributes:
        pad_id: the id of padding, which no token sees.

    Raises:
        ValueError: a value is out of its range, or `width` is not a multiple of 4 and of `heads`.
    """

    kind: ClassVar = "TIPS text tower"
    has_projection: ClassVar = False
    transformers_models: ClassVar = ("tipsv2",)

    context_length: int
    vocab_size: int
    width: int
    heads: int
    layers: int
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-5
    pad_id: int = 0
    hf_tokenizer_name: str | None = None
    # TIPS's tokenizer makes a text lower case itself; it is not changed in any other way.
    tokenizer_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"clean": "none"})
    output_tokens: bool = False

    def __post_init__(self) -> None:
        require_sizes(width=self.width, heads=self.heads)
        require_sizes(LONGEST_CONTEXT, context_length=self.context_length)
        require_sizes(LARGEST_VOCABULARY, vocab_size=self.vocab_size)
        require_sizes(MOST_LAYERS, layers=self.layers)
        require_token(pad_id=self.pad_id)
        require_multiple("width", self.width, "heads", self.heads)
        require_multiple("width", self.width, "for sines and cosines of positions", 4)
        require_blocks(self.width, self.mlp_ratio, self.norm_eps)
        require_flags(output_tokens=self.output_tokens)
        if not isinstance(self.hf_tokenizer_name, (str, type(None))):
            raise ValueError(
                "hf_tokenizer_name must be a name or left out, got "
                f"{quoted(self.hf_tokenizer_name)}"
            )
        if not isinstance(self.tokenizer_kwargs, Mapping):
            raise ValueError(
                "tokenizer_kwargs must be a mapping of settings, got "
                f"{quoted(self.tokenizer_kwargs)}"
            )

    def build(self, embed_dim: int) -> "TipsTextTransformer":
        from fastclip.models.towers.tips.text import TipsTextTransformer

        return TipsTextTransformer(self)

    def num_matrix_parameters(self) -> int:
        of_blocks = int(self.layers * self.width**2 * (4 + 2 * self.mlp_ratio))
        return self.vocab_size * self.width + of_blocks

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        return values.get("pool_type") == "mean"

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "TipsTextConfig":
        values = TIPS_TEXT_FIELDS.read("text_cfg", values)
        sizes = dict(context_length=CONTEXT_LENGTH, vocab_size=VOCAB_SIZE)
        return cls(**sizes | {k: v for k, v in values.items() if k != "pool_type"})

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in sorted(names_of(TipsTextConfig))}
        values["tokenizer_kwargs"] = dict(self.tokenizer_kwargs)
        return {k: v for k, v in values.items() if v != getattr(TipsTextConfig, k, None)} | {
            "pool_type": "mean"
        }

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        return (
            "text.token_embedding.weight" in tensors and "text.positional_embedding" not in tensors
        )

    @classmethod
    def of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> "TipsTextConfig":
        from fastclip.models.towers.tips.presets import tokenizer_of

        vocab_size, width = sizes_of(tensors, "text.token_embedding.weight", 2)
        blocks = "text.transformer.resblocks."
        hidden_width, _ = sizes_of(tensors, f"{blocks}0.mlp.c_fc.weight", 2)
        return cls(
            CONTEXT_LENGTH, vocab_size, width, heads=1, layers=depth_of(tensors, blocks),
            mlp_ratio=mlp_ratio(hidden_width, width),
            hf_tokenizer_name=tokenizer_of(vocab_size, width),
        )  # fmt: skip

    def with_heads(self, heads: int) -> "TipsTextConfig":
        return replace(self, heads=heads)

    def shape(self) -> tuple:
        hidden_width = int(self.width * self.mlp_ratio)
        return TipsTextConfig, self.width, self.layers, hidden_width, self.vocab_size

    def transformers_rows(self, prefix: str) -> Iterator[Correspondence]:
        yield as_published(f"{prefix}token_embedding.weight")
        blocks = [f"{prefix}transformer.resblocks.{i}." for i in range(self.layers)]
        parts = [f"{block}{layer}." for block in blocks for layer in BLOCK]
        qkv = [f"{block}attn.in_proj_" for block in blocks]
        for part in (*parts, *qkv, f"{prefix}ln_final."):
            yield from (as_published(f"{part}{kind}") for kind in ("weight", "bias"))


TIPS_TEXT_FIELDS = json_fields(
    names_of(TipsTextConfig) | {"pool_type"},
    TEXT,
    {
        "hf_model_pretrained": NOT_HUGGING_FACE,
        "hf_proj_type": NOT_HUGGING_FACE,
        "hf_pooler_type": NOT_HUGGING_FACE,
    },
)
