"""The configuration of CLIP's text tower, which SigLIP's and CoCa's models have, too."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from fastclip.data.limits import LARGEST_VOCABULARY, LONGEST_CONTEXT, MOST_LAYERS
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.correspondence import (
    OPENAI_BLOCK,
    Correspondence,
    block,
    layer,
    same,
)
from fastclip.models.checkpoints.shapes import depth_of, sizes_of
from fastclip.models.open_clip_fields import (
    NOT_HUGGING_FACE,
    READ_AS_OURS,
    TEXT,
    json_fields,
    names_of,
)
from fastclip.models.parts.activations import require_activation
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.towers.block_json import blocks_from_json, blocks_to_json
from fastclip.models.towers.config_checks import (
    require_blocks,
    require_choice,
    require_exponents,
    require_flags,
    require_multiple,
    require_sizes,
    require_token,
)
from fastclip.models.towers.text_config import TextTowerConfig

if TYPE_CHECKING:
    from fastclip.models.towers.text.module import TextTransformer

TEXT_POOLS = ("argmax", "eos", "first", "last")
OPENAI_VOCAB_SIZE = 49408
SIGLIP_NORM_EPS = 1e-6


@dataclass(frozen=True)
class TextConfig(TextTowerConfig):
    """The configuration of a text tower for texts of `context_length` tokens.

    Attributes:
        no_causal_mask: whether every token sees every other token.
        pool_type: the token that is read: "argmax" is the token with the largest id, OpenAI's end
            token; "eos" is the first token `eos_id`; "first"; "last".
        proj_type: "linear", or "none" for features that are not projected.
        proj_bias: whether the projection is an `nn.Linear` with a bias, not a matrix.
        hf_tokenizer_name: the Hugging Face name of its tokenizer, or the name of the directory that
            holds the tokenizer and the weights; None for OpenAI's tokenizer.
        tokenizer_kwargs: what open_clip passes to that tokenizer.
        output_tokens: whether the tower returns its tokens along with its features.
        embed_cls: whether features are read, instead of from the token of `pool_type`, from a
            learned token after the text, which does not see padding (CoCa).
        pad_id: the id of padding, which `embed_cls` needs.

    Raises:
        ValueError: a value is out of its range, or `width` is not a multiple of `heads`.
    """

    kind: ClassVar = "CLIP text tower"
    stands_alone: ClassVar = False
    transformers_models: ClassVar = ("clip", "siglip", "siglip2")

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
    embed_cls: bool = False
    pad_id: int = 0

    def __post_init__(self) -> None:
        require_sizes(width=self.width, heads=self.heads)
        require_sizes(LONGEST_CONTEXT, context_length=self.context_length)
        require_sizes(LARGEST_VOCABULARY, vocab_size=self.vocab_size)
        require_sizes(MOST_LAYERS, layers=self.layers)
        require_token(eos_id=self.eos_id, pad_id=self.pad_id)
        require_multiple("width", self.width, "heads", self.heads)
        require_blocks(self.width, self.mlp_ratio, self.norm_eps)
        require_choice("pool_type", self.pool_type, TEXT_POOLS)
        require_choice("proj_type", self.proj_type, ("linear", "none"))
        require_activation(self.activation)
        if self.ls_init_value is not None:
            require_exponents(ls_init_value=self.ls_init_value)
        require_flags(
            no_causal_mask=self.no_causal_mask, proj_bias=self.proj_bias,
            output_tokens=self.output_tokens, embed_cls=self.embed_cls,
        )  # fmt: skip
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

    def build(self, embed_dim: int) -> "TextTransformer":
        from fastclip.models.towers.text.class_token import ClassTokenText
        from fastclip.models.towers.text.module import TextTransformer

        return (ClassTokenText if self.embed_cls else TextTransformer)(self, embed_dim)

    @property
    def has_projection(self) -> bool:
        return self.proj_type != "none"

    def with_quick_gelu(self) -> "TextConfig":
        return replace(self, activation="quick_gelu")

    def num_matrix_parameters(self) -> int:
        of_blocks = int(self.layers * self.width**2 * (4 + 2 * self.mlp_ratio))
        return self.vocab_size * self.width + of_blocks

    def has_clip_vocabulary(self) -> bool:
        return self.hf_tokenizer_name is None and self.vocab_size == OPENAI_VOCAB_SIZE

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        return True

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "TextConfig":
        values = TEXT_FIELDS.read("text_cfg", values)
        if values.get("tokenizer_kwargs") is None:
            values.pop("tokenizer_kwargs", None)
        if not values.get("embed_cls"):
            values.pop("pad_id", None)  # nothing else uses it
        sizes = dict(context_length=77, vocab_size=OPENAI_VOCAB_SIZE, width=512, heads=8, layers=12)
        return cls(**sizes | blocks_from_json("text_cfg", values, quick_gelu))

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        return blocks_to_json(self, quick_gelu)

    def is_portable(self) -> bool:
        return True

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str, **readout: Any
    ) -> "TextConfig":
        """Infer the tower from a state dict under open_clip's names, as if it had one head.

        Args:
            tensors: the state dict.
            activation: the tower's activation, which shapes do not show.
            readout: other fields that shapes do not show.

        Raises:
            KeyError: a tensor whose shape is needed is missing.
            CheckpointError: a tensor whose shape is needed has an unusable one.
        """
        prefix = cls.prefix_in(tensors)
        vocab_size, width = sizes_of(tensors, f"{prefix}token_embedding.weight", 2)
        blocks = f"{prefix}transformer.resblocks."
        tower = cls(
            context_length=sizes_of(tensors, f"{prefix}positional_embedding", 2)[0],
            vocab_size=vocab_size, width=width, heads=1, layers=depth_of(tensors, blocks),
            mlp_ratio=mlp_ratio(*sizes_of(tensors, f"{blocks}0.mlp.c_fc.weight", 2)),
            activation=activation, **readout,
        )  # fmt: skip
        is_matrix = tower.proj_type == "linear" and not tower.proj_bias
        if is_matrix and f"{prefix}text_projection" not in tensors:
            raise KeyError(f"{prefix}text_projection")
        return tower

    @staticmethod
    def prefix_in(tensors: Mapping[str, Tensor]) -> str:
        """Return the prefix of the names of a text tower's tensors: "text." or ""."""
        return "text." if "text.token_embedding.weight" in tensors else ""

    def with_heads(self, heads: int) -> "TextConfig":
        return replace(self, heads=heads)

    def shape(self) -> tuple:
        is_siglip = self.norm_eps == SIGLIP_NORM_EPS
        hidden_width = int(self.width * self.mlp_ratio)
        sizes = self.width, self.layers, hidden_width, self.vocab_size
        return TextConfig, *sizes, is_siglip, *(("embed_cls",) if self.embed_cls else ())

    def transformers_rows(self, prefix: str) -> Iterator[Correspondence]:
        text = "text_model."
        embeddings = f"{text}embeddings."
        yield same(f"{prefix}token_embedding.weight", f"{embeddings}token_embedding.weight")
        yield same(f"{prefix}positional_embedding", f"{embeddings}position_embedding.weight")
        yield from layer(f"{prefix}ln_final", f"{text}final_layer_norm")
        for i in range(self.layers):
            ours, theirs = f"{prefix}transformer.resblocks.{i}.", f"{text}encoder.layers.{i}."
            yield from block(ours, theirs, OPENAI_BLOCK)


TEXT_FIELDS = json_fields(
    names_of(TextConfig) | READ_AS_OURS,
    TEXT,
    {
        "hf_model_pretrained": NOT_HUGGING_FACE,
        "hf_proj_type": NOT_HUGGING_FACE,
        "hf_pooler_type": NOT_HUGGING_FACE,
    },
)
