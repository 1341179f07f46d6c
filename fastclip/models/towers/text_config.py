"""What a text tower's configuration knows of its tower, whatever the tower is.

It is to texts what `image_config.py` is to images: the rest of fastclip never asks of which kind a
tower is. What has an answer here is the answer of a tower that nobody else has.
"""

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from fastclip.data.tokenizers.vocabulary import BYTES
from fastclip.models.checkpoints.correspondence import Correspondence

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig


class TextTowerConfig:
    """Base of the configurations of text towers, which are frozen dataclasses.

    Attributes:
        kind: what such a tower is called in a message: "its CLIPModel has no <kind>".
        context_length: tokens of a text, as the tokenizer makes them.
        vocab_size: how many ids of tokens there are.
        width: channels of a token.
        layers: how many blocks.
        heads: of attention.
        activation: see `parts/activations.py`; None where there is nothing to choose.
        hf_tokenizer_name: Hugging Face name of its tokenizer, or the name of the directory that
            one lies in with the weights; None for OpenAI's.
        tokenizer_kwargs: what open_clip passes to that tokenizer.
        output_tokens: the tower returns its tokens along with its features.
        stands_alone: its tensors are under `text.` in every model; those of the others may be at
            the top level, as in `CLIP`, which inherits their tower.
        is_published_alone: there are weights of such towers without an image tower.
        transformers_models: the `model_type` of transformers' models that have a place for it.
        decoder_vocabulary: how many tokens open_clip's decoder of captions writes beside such a
            tower where `text_cfg` has no `vocab_size`; None where that is the tower's own number.
    """

    kind: ClassVar[str]
    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int
    activation: str | None = None
    hf_tokenizer_name: str | None
    tokenizer_kwargs: Mapping[str, Any]
    output_tokens: bool
    stands_alone: ClassVar[bool] = True
    is_published_alone: ClassVar[bool] = False
    transformers_models: ClassVar[tuple[str, ...]] = ()
    decoder_vocabulary: ClassVar[int | None] = None

    def build(self, embed_dim: int) -> nn.Module:
        """The tower, with random weights, whose features have `embed_dim` channels.

        It maps (B, T) int64 tokens to (B, embed_dim) features or, where its `output_tokens` is
        true, to features and tokens; has `context_length` and `vocab_size`; and the methods `lock`
        and `set_grad_checkpointing` of `TextTransformer`. One whose features do not depend on what
        is behind a text's end has `text_lengths`, too.
        """
        raise NotImplementedError

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        """The models that open_clip has names for because of such a tower, by name."""
        return {}

    def load_published(self, tower: nn.Module, cache_dir: str | PathLike | None = None) -> None:
        """Load the weights that such a tower is published with alone, if there are any.

        Args:
            tower: one that `build` has made, which is changed in place.
            cache_dir: where published weights are kept.

        Raises:
            FileNotFoundError, CheckpointError: they cannot be fetched or read.
        """

    @property
    def has_projection(self) -> bool:
        """Whether features can have another width than the tower."""
        raise NotImplementedError

    def has_clip_vocabulary(self) -> bool:
        """Whether the tower takes the ids of OpenAI's tokenizer."""
        return False

    def has_byte_vocabulary(self) -> bool:
        """Whether the tower takes the ids of the tokenizer whose tokens are bytes."""
        return self.tokenizer_kwargs.get("vocabulary") == BYTES

    def with_quick_gelu(self) -> "TextTowerConfig":
        """The tower as open_clip's `quick_gelu` changes it; unchanged if it has no such choice."""
        return self

    def num_matrix_parameters(self) -> int:
        """About how many parameters: those of matrices and of the vocabulary."""
        raise NotImplementedError

    # As JSON, in open_clip's words: its `text_cfg`

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        """Whether a `text_cfg` is of such a tower."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "TextTowerConfig":
        """Read a `text_cfg`.

        Args:
            quick_gelu: the model's `quick_gelu`, which is the default of an activation.

        Raises:
            ValueError: a field is unknown, or its value is not supported; the message names it.
        """
        raise NotImplementedError

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        """The reverse of `from_json`."""
        raise NotImplementedError

    def is_portable(self) -> bool:
        """Whether open_clip understands what `to_json` says, up to words for its activation."""
        return False

    # From tensors, under open_clip's names

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a model's state dict is of a model with such a tower, and with no other."""
        return False

    @classmethod
    def of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> "TextTowerConfig":
        """The tower that a state dict is of, if `has_weights_in` says so, maybe as of one head.

        Raises:
            KeyError: a tensor that tells a size is missing.
            CheckpointError: the shapes do not tell what the tower is.
        """
        raise NotImplementedError

    def with_heads(self, heads: int) -> "TextTowerConfig":
        """The tower with another number of attention heads, which shapes do not tell."""
        raise NotImplementedError

    @property
    def attention_width(self) -> int:
        """The channels that are shared among the heads."""
        return self.width

    def shape(self) -> tuple:
        """What shapes tell of the tower, but for the length of texts."""
        return type(self), self.width, self.layers, self.vocab_size

    # In other libraries

    def transformers_rows(self, prefix: str) -> Iterator[Correspondence]:
        """Its tensors, behind `prefix` here, in transformers' models, but for the projection."""
        return iter(())
