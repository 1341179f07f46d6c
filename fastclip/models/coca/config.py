"""The configuration of CoCa's decoder: open_clip's `multimodal_cfg`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastclip.data.limits import LARGEST_VOCABULARY, LONGEST_CONTEXT, MOST_LAYERS
from fastclip.data.quoting import quoted
from fastclip.models.open_clip_fields import BLOCKS, json_fields, names_of
from fastclip.models.towers.block_json import blocks_from_json, blocks_to_json
from fastclip.models.towers.config_checks import (
    require_choice,
    require_exponents,
    require_multiple,
    require_sizes,
)

MLP_RATIO = 4  # for all decoders: open_clip's decoder ignores the field


@dataclass(frozen=True)
class MultimodalConfig:
    """A decoder of `layers` pairs of blocks: one reads the text, one reads the image.

    Attributes:
        context_length: the number of tokens of the longest text.
        width: the width of the tokens of the image tower, the text tower and the decoder.
        heads: the number of attention heads.
        layers: the number of pairs of blocks.
        activation: "gelu" or "quick_gelu".
        ls_init_value: the initial value of LayerScale, or None for no LayerScale.
        vocab_size: how many tokens the decoder can write, which are the first ones of the text
            tower's vocabulary; None for all of them.

    Raises:
        ValueError: a value is out of its range, or the width is not a multiple of the heads.
    """

    context_length: int
    width: int
    heads: int
    layers: int
    activation: str = "gelu"
    ls_init_value: float | None = None
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        require_sizes(width=self.width, heads=self.heads)
        require_sizes(LONGEST_CONTEXT, context_length=self.context_length)
        require_sizes(MOST_LAYERS, layers=self.layers)
        require_multiple("width", self.width, "heads", self.heads)
        require_choice("activation", self.activation, ("gelu", "quick_gelu"))
        if self.ls_init_value is not None:
            require_exponents(ls_init_value=self.ls_init_value)
        if self.vocab_size is not None:
            require_sizes(LARGEST_VOCABULARY, vocab_size=self.vocab_size)

    def num_written(self, text_vocab_size: int) -> int:
        """Return how many tokens the decoder writes if the text tower reads `text_vocab_size`."""
        return text_vocab_size if self.vocab_size is None else self.vocab_size

    def num_matrix_parameters(self, text_vocab_size: int) -> int:
        """Return about how many parameters the decoder has, in its matrices and its vocabulary."""
        of_blocks = 2 * self.layers * self.width**2 * (4 + 2 * MLP_RATIO)
        return of_blocks + self.num_written(text_vocab_size) * self.width

    def with_quick_gelu(self) -> "MultimodalConfig":
        """Return the same decoder with QuickGELU, which open_clip's `quick_gelu` asks for."""
        return replace(self, activation="quick_gelu")

    @classmethod
    def from_json(
        cls, values: Mapping[str, Any], quick_gelu: bool, text_vocab_size: int, num_written: int
    ) -> "MultimodalConfig":
        """Read open_clip's `multimodal_cfg`.

        Args:
            quick_gelu: the model's `quick_gelu`.
            text_vocab_size: how many tokens the text tower reads.
            num_written: how many tokens the decoder writes; open_clip takes it from `text_cfg`.

        Raises:
            ValueError: a field is unknown, or its value is not supported; the message names it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"multimodal_cfg must be an object, got {quoted(values)}")
        told = values.get("vocab_size", num_written)
        if told != num_written:
            raise ValueError(
                f"multimodal_cfg: vocab_size {quoted(told)} is not supported: the decoder writes "
                f"as many tokens as the vocab_size of text_cfg says, {quoted(num_written)}"
            )
        sizes = dict(context_length=77, width=512, heads=8, layers=12)
        read = blocks_from_json(
            "multimodal_cfg", MULTIMODAL_FIELDS.read("multimodal_cfg", values), quick_gelu
        )
        # Configurations that build the same model must be equal.
        own = None if num_written == text_vocab_size else num_written
        return cls(**sizes | read | {"vocab_size": own})

    def to_json(self, quick_gelu: bool, text_vocab_size: int) -> dict[str, Any]:
        """Return open_clip's `multimodal_cfg`: the reverse of `from_json`."""
        return blocks_to_json(self, quick_gelu) | {"vocab_size": self.num_written(text_vocab_size)}


NO_POOLER = "open_clip's decoder has no pooler; the image tower's is in vision_cfg."
NO_READOUT = "The decoder predicts every token and has no readout."
NO_TOKENIZER = "The text tower names the tokenizer."
NOT_HUGGING_FACE = "The decoder is not a model of Hugging Face's."
MULTIMODAL_FIELDS = json_fields(
    names_of(MultimodalConfig),
    BLOCKS | {"mlp_ratio": (MLP_RATIO,), "no_causal_mask": (False,)},
    {
        "dim_head": "open_clip's heads share the width evenly.",
        "n_queries": NO_POOLER, "attn_pooler_heads": NO_POOLER,
        "embed_cls": NO_READOUT, "pool_type": NO_READOUT, "proj_type": NO_READOUT,
        "proj_bias": NO_READOUT, "eos_id": NO_READOUT, "pad_id": NO_READOUT,
        "hf_tokenizer_name": NO_TOKENIZER, "tokenizer_mode": NO_TOKENIZER,
        "tokenizer_kwargs": NO_TOKENIZER,
        "hf_model_name": NOT_HUGGING_FACE, "hf_model_pretrained": NOT_HUGGING_FACE,
        "hf_proj_type": NOT_HUGGING_FACE, "hf_pooler_type": NOT_HUGGING_FACE,
    },
)  # fmt: skip
