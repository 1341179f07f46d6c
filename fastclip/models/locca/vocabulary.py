"""The tokens of LocCa's decoder: words, then five of its own, then the bins of coordinates.

    0 ... num_words - 1     the tokenizer's tokens, unchanged
    num_words               PAD    padding, and the label where nothing is predicted
    num_words + 1           MASK   stands for the words of a caption that is predicted in parallel
    num_words + 2, 3, 4     CAP, AREF, GCAP    the prefixes that name a task
    num_words + 5 + b       bin b of a coordinate, b in [0, bins)

The decoder has its own padding, because some tokenizers pad with their end token, which must be
predicted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastclip.data.limits import LARGEST_VOCABULARY
from fastclip.models.towers.config_checks import require_sizes, require_token

NUM_OWN = 5  # PAD, MASK and three prefixes


@dataclass(frozen=True)
class LocCaVocabulary:
    """The meaning of the decoder's tokens; their order is explained in the module.

    Attributes:
        num_words: the number of the tokenizer's tokens, whose ids are below it.
        end_id: the tokenizer's end token; everything behind the first one is padding.
        start_id: the token that every text begins with, or None if the tokenizer has none.
        pad_id: the tokenizer's padding, which also follows the end of texts that are written.
        bins: the number of intervals of a coordinate, see `quantize_boxes`.

    Raises:
        ValueError: a number is out of its range, an id is not one of the tokenizer's, or `start_id`
            equals `end_id` or `pad_id`.

    Example:
        >>> of_clip = LocCaVocabulary(49408, end_id=49407, start_id=49406)
        >>> of_clip.size  # words, five tokens of its own, 500 bins
        49913
    """

    num_words: int
    end_id: int
    start_id: int | None = None
    pad_id: int = 0
    bins: int = 500

    def __post_init__(self) -> None:
        require_sizes(LARGEST_VOCABULARY, num_words=self.num_words, bins=self.bins)
        ids = {"end_id": self.end_id, "pad_id": self.pad_id}
        if self.start_id is not None:
            ids["start_id"] = self.start_id
        require_token(**ids)
        for name, token in ids.items():
            if token >= self.num_words:
                raise ValueError(
                    f"{name} must be below num_words {self.num_words:,}, got {token:,}"
                )
        if self.start_id in (self.end_id, self.pad_id):
            raise ValueError(
                f"start_id must differ from end_id {self.end_id} and pad_id {self.pad_id}, got "
                f"{self.start_id}"
            )

    @property
    def pad(self) -> int:
        """The decoder's padding, which is not the tokenizer's `pad_id`."""
        return self.num_words

    @property
    def mask(self) -> int:
        return self.num_words + 1

    @property
    def cap(self) -> int:
        return self.num_words + 2

    @property
    def aref(self) -> int:
        return self.num_words + 3

    @property
    def gcap(self) -> int:
        return self.num_words + 4

    @property
    def first_bin(self) -> int:
        return self.num_words + NUM_OWN

    @property
    def size(self) -> int:
        """The number of all tokens."""
        return self.first_bin + self.bins

    def can_be_written(self, device: torch.device) -> Tensor:
        """Return (size,) bool: which tokens a text may have after its start token.

        The tokenizer's padding is one of them, because it may be a word too: in OpenAI's tokenizer,
        id 0 is also "!".
        """
        allowed = torch.arange(self.size, device=device) < self.num_words
        if self.start_id is not None:
            allowed[self.start_id] = False
        return allowed
