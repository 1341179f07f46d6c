"""LocCa's decoder: CoCa's decoder over the tokens of an image's patches, with tokens for boxes.

Source: Wan et al. 2024 (LocCa), arXiv:2403.19596, section 3; as a second head next to SigLIP's
loss, Tschannen et al. 2025 (SigLIP 2), arXiv:2502.14786, section 2.
"""

import torch
from torch import Tensor, nn

from fastclip.data.limits import LONGEST_CONTEXT
from fastclip.models.coca.config import MultimodalConfig
from fastclip.models.coca.decoder import MultimodalTransformer
from fastclip.models.locca.boxes import COORDINATES
from fastclip.models.locca.parallel import mask_of_rows
from fastclip.models.locca.sequences import Sequences
from fastclip.models.locca.vocabulary import LocCaVocabulary
from fastclip.models.towers.config_checks import require_sizes


class LocCaHead(nn.Module):
    """A decoder that reads (B, S, image_width) tokens of patches and writes captions and boxes.

    Args:
        vocabulary: the meaning of the decoder's tokens.
        image_width: the width of the image tower's patch tokens.
        context_length: the number of tokens of the longest text, as the tokenizer makes it.
        width: the width of the decoder's tokens.
        heads: the number of attention heads of the decoder, which divides `width`.
        layers: the number of layers of the decoder, each with a block that reads the text and a
            block that reads the image.
        activation: "gelu" or "quick_gelu".

    Attributes:
        decoder: see `MultimodalTransformer`.
        image_projection: maps the image's tokens to the tokens that the decoder reads.

    Raises:
        ValueError: a size is out of its range, or `heads` does not divide the width.

    Example:
        >>> vocabulary = LocCaVocabulary(49408, end_id=49407, start_id=49406)
        >>> head = LocCaHead(vocabulary, image_width=768, context_length=77)
    """

    def __init__(
        self,
        vocabulary: LocCaVocabulary,
        image_width: int,
        context_length: int,
        width: int = 512,
        heads: int = 8,
        layers: int = 6,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        require_sizes(image_width=image_width)
        require_sizes(LONGEST_CONTEXT - COORDINATES, context_length=context_length)
        longest = context_length + COORDINATES
        config = MultimodalConfig(longest, width, heads, layers, activation)
        self.vocabulary = vocabulary
        self.context_length = context_length
        self.image_projection = nn.Linear(image_width, width)
        nn.init.normal_(self.image_projection.weight, std=image_width**-0.5)
        nn.init.zeros_(self.image_projection.bias)
        self.token_embedding = nn.Embedding(vocabulary.size, width)
        nn.init.normal_(self.token_embedding.weight, std=width**-0.5)
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(longest, width))
        self.decoder = MultimodalTransformer(config, vocabulary.size)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Save the memory of each block's activations by computing them again in the backward."""
        self.decoder.set_grad_checkpointing(enable)

    def forward(self, image_tokens: Tensor, sequences: Sequences) -> Tensor:
        """Return the (R, L) cross-entropies of the labels, in nats; 0 for labels that are padding.

        They are float32, or float64 in a float64 head. The logits of all tokens are never held at
        once.

        Args:
            image_tokens: (B, S, image_width).
            sequences: R rows, a multiple of B: one sequence of each image, then the next of each.

        Raises:
            ValueError: sequences are longer than the head was made for, or their number is not a
                multiple of the number of images.
        """
        inputs, labels, parallel = sequences
        embedded = self._embedded(inputs)
        times, rest = divmod(len(inputs), len(image_tokens))
        if rest:
            raise ValueError(
                f"sequences must have a multiple of {len(image_tokens)} rows, as many as images, "
                f"got {len(inputs)}"
            )
        image = self.image_projection(image_tokens)
        mask = None if parallel is None else mask_of_rows(parallel, inputs.shape[1], embedded)
        return self.decoder(image, embedded, labels, self.vocabulary.pad, mask, times)

    def next_logits(
        self, image_tokens: Tensor, tokens: Tensor, read_at: Tensor | int = -1
    ) -> Tensor:
        """Return the (B, vocabulary.size) logits of the token that follows one token of each row.

        Args:
            image_tokens: (B, S, image_width).
            tokens: (B, T) int64; a token does not attend to later ones.
            read_at: the position of that token: (B,) int64, or one number for all rows; by default
                the last position.
        """
        image = self.image_projection(image_tokens)
        return self.decoder.next_logits(image, self._embedded(tokens), read_at)

    def _embedded(self, tokens: Tensor) -> Tensor:
        L, longest = tokens.shape[1], len(self.positional_embedding)
        if L > longest:
            raise ValueError(
                f"texts must have at most {self.context_length} tokens, for which the head was "
                f"made: their sequences have {L} tokens, and there are {longest} positions"
            )
        return self.token_embedding(tokens) + self.positional_embedding[:L]
