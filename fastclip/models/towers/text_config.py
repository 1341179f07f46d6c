"""The base of text towers' configurations: everything the rest of fastclip asks about a tower.

It is to texts what `image_config.py` is to images: the rest of fastclip never asks which kind of
tower it has. The answers given in this file are right for a tower that no other library has.
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
        vocab_size: the number of ids of tokens.
        width: channels of a token.
        layers: the number of blocks.
        heads: the number of attention heads.
        activation: see `parts/activations.py`; None where there is no choice.
        hf_tokenizer_name: the Hugging Face name of its tokenizer, or the name of the directory that
            holds the tokenizer and the weights; None for OpenAI's tokenizer.
        tokenizer_kwargs: what open_clip passes to that tokenizer.
        output_tokens: whether the tower returns its tokens along with its features.
        stands_alone: whether its tensors are under `text.` in every model; the tensors of other
            towers may be at the top level, as in `CLIP`, which inherits their tower.
        is_published_alone: whether such towers' weights are published without an image tower.
        transformers_models: the `model_type` of each of transformers' models that can have such a
            tower.
        decoder_vocabulary: the vocabulary of open_clip's caption decoder in a model with such a
            tower, if `text_cfg` has no `vocab_size`; None where it is the tower's own.
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
        """Build the tower, with random weights and with features of `embed_dim` channels.

        The tower maps (B, T) int64 tokens to (B, embed_dim) features or, where its `output_tokens`
        is true, to features and tokens. It has `context_length`, `vocab_size` and the methods
        `lock` and `set_grad_checkpointing` of `TextTransformer`. A tower whose features do not
        depend on what follows the end of a text has `text_lengths`, too.
        """
        raise NotImplementedError

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        """Return the models that open_clip has names for because of such a tower, by name."""
        return {}

    def load_published(self, tower: nn.Module, cache_dir: str | PathLike | None = None) -> None:
        """Load weights that were published for such a tower alone, if there are any.

        Args:
            tower: a tower that `build` made, which is changed in place.
            cache_dir: the directory in which published weights are kept.

        Raises:
            FileNotFoundError, CheckpointError: the weights cannot be fetched or read.
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
        """Return the tower with open_clip's `quick_gelu`; unchanged if it has no such choice."""
        return self

    def num_matrix_parameters(self) -> int:
        """Estimate the number of parameters in matrices and in the embedding of the vocabulary."""
        raise NotImplementedError

    # As JSON, in open_clip's fields: the `text_cfg`

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        """Return whether a `text_cfg` describes such a tower."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "TextTowerConfig":
        """Read a `text_cfg`.

        Args:
            values: the fields of the `text_cfg`.
            quick_gelu: the model's `quick_gelu`, which sets the default activation.

        Raises:
            ValueError: a field is unknown, or its value is not supported; the message names it.
        """
        raise NotImplementedError

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        """Return the tower's `text_cfg`, the reverse of `from_json`."""
        raise NotImplementedError

    def is_portable(self) -> bool:
        """Return whether open_clip can read what `to_json` writes, except for the activation."""
        return False

    # From tensors, under open_clip's names

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether a state dict's names show that its text tower is such a tower."""
        return False

    @classmethod
    def of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> "TextTowerConfig":
        """Infer the tower from a state dict for which `has_weights_in` is true.

        The tower has one head if the state dict does not show how many there are.

        Raises:
            KeyError: a tensor whose shape is needed is missing.
            CheckpointError: the shapes do not show what the tower is.
        """
        raise NotImplementedError

    def with_heads(self, heads: int) -> "TextTowerConfig":
        """Return the tower with `heads` attention heads, a number that shapes do not show."""
        raise NotImplementedError

    @property
    def attention_width(self) -> int:
        """The number of channels that the heads divide among them."""
        return self.width

    def shape(self) -> tuple:
        """Return what tensors' shapes show of the tower, except the length of texts."""
        return type(self), self.width, self.layers, self.vocab_size

    # In other libraries

    def transformers_rows(self, prefix: str) -> Iterator[Correspondence]:
        """Yield how the tower's tensors correspond to those in transformers' models.

        The names here begin with `prefix`. The projection is left out.
        """
        return iter(())
