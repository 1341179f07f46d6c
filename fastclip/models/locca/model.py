"""A pair of towers with LocCa's decoder, which reads the image tower's tokens of patches.

Source: Wan et al. 2024 (LocCa), arXiv:2403.19596; Tschannen et al. 2025 (SigLIP 2),
arXiv:2502.14786, section 2, which trains both with equal weights and keeps only the towers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.models.coca.generation import evaluated
from fastclip.models.contrastive_model import ContrastiveModel, intermediates_of
from fastclip.models.locca.boxes import COORDINATES, dequantize_boxes
from fastclip.models.locca.head import LocCaHead
from fastclip.models.locca.sequences import (
    caption_sequences,
    grounded_sequences,
    referring_sequences,
    together,
    words_of,
)
from fastclip.models.locca.writer import referred_boxes, written

NEEDED = ("tokens", "region_tokens", "boxes")
OPTIONAL = ("parallel",)


class Description(NamedTuple):
    """One box per image and a text that describes its content.

    Attributes:
        boxes: (B, 4) float32, see `quantize_boxes`.
        tokens: (B, T) int64, the texts, as the tokenizer makes them.
    """

    boxes: Tensor
    tokens: Tensor


class LocCa(nn.Module):
    """A pair of towers with a `LocCaHead`, trained by `fastclip.LocCaLoss`.

    Args:
        pair: a built-in model whose image tower has patches or maps, such as SigLIP's. It can be
            used and saved as if there were no head.
        head: a head made for the width of `pair.visual.patch_tokens`.

    Raises:
        TypeError: `pair` is not one of fastclip's models, writes captions itself, or has an image
            tower without patch tokens.

    Example:
        >>> pair = fastclip.create_model("ViT-B-16-SigLIP", load_weights=False)
        >>> model = LocCa(pair, LocCaHead(vocabulary, image_width=768, context_length=64))
        >>> batch = {"tokens": tokens, "region_tokens": of_regions, "boxes": boxes}
        >>> loss = fastclip.LocCaLoss()(**model(images, batch))
        >>> sum(loss.values()).backward()
        >>> model.predict_boxes(images, tokenizer(["a red star"] * len(images)))
    """

    def __init__(self, pair: ContrastiveModel, head: LocCaHead) -> None:
        super().__init__()
        if not isinstance(pair, ContrastiveModel):
            raise TypeError(f"pair must be a model of fastclip's, got {type(pair).__name__}")
        if getattr(pair, "writes_captions", False):
            raise TypeError("pair must be two towers alone, got a model that writes captions")
        if not hasattr(pair.visual, "forward_intermediates"):
            tower = type(pair.visual).__name__
            raise TypeError(f"pair must have an image tower with patch tokens, got {tower}")
        self.pair = pair
        self.head = head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Save the memory of each block's activations by computing them again in the backward."""
        self.pair.set_grad_checkpointing(enable)
        self.head.set_grad_checkpointing(enable)

    def forward(self, images: Tensor, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the arguments of `LocCaLoss`, by name.

        Args:
            images: (B, channels, height, width), floating-point.
            texts: a mapping with `tokens`, (B, T) captions of the images, which the text tower
                reads too; `region_tokens`, (B, U) texts about one region of each image; `boxes`,
                (B, 4) floating-point, the places of these regions; and optionally `parallel`,
                (B,) bool, the captions that are predicted in parallel, see `draw_parallel`.

        Returns:
            `image_features` and `text_features`, (B, embed_dim) unit rows; `logit_scale`, () and
            multiplicative; `logit_bias` in a model that has one; `caption_losses`, (B,), the sums
            of the cross-entropies of all tokens that the three tasks predict, in nats; and
            `caption_tokens`, (B,) int64, the numbers of these tokens.

        Raises:
            TypeError: `images` are a padded batch of patches, `texts` is not a mapping, or a tensor
                in it has another dtype.
            ValueError: a tensor in `texts` is missing, unknown, of another shape or out of its
                range; the message names it.
        """
        self._require(images, texts)
        vocabulary = self.head.vocabulary
        words = words_of(vocabulary, "tokens", texts["tokens"])
        of_regions = words_of(vocabulary, "region_tokens", texts["region_tokens"])
        features, image_tokens = self._seen(images)
        tasks = (
            caption_sequences(vocabulary, words, texts.get("parallel")),
            together(
                referring_sequences(vocabulary, of_regions, texts["boxes"]),
                grounded_sequences(vocabulary, of_regions, texts["boxes"]),
            ),
        )
        losses, numbers = 0, 0
        for sequences in tasks:
            of_tokens = self.head(image_tokens, sequences).sum(1)
            asked = (sequences.labels != vocabulary.pad).sum(1)
            losses = losses + of_tokens.view(-1, len(images)).sum(0)
            numbers = numbers + asked.view(-1, len(images)).sum(0)
        found = self._named(self.pair(None, texts["tokens"]))
        found["image_features"] = F.normalize(features, dim=-1)
        return found | {"caption_losses": losses, "caption_tokens": numbers}

    @torch.no_grad()
    def predict_boxes(self, images: Tensor, texts: Tensor) -> Tensor:
        """Locate what a text names in each image, and return (B, 4) float32 boxes: the task AREF.

        The model computes as in evaluation mode. It always returns a box, even if the image does
        not show what the text names. Each coordinate in turn is the most probable bin.

        Args:
            images: (B, channels, height, width), floating-point.
            texts: (B, T) tokens; row i is the text for image i.

        Raises:
            TypeError: `images` are a padded batch of patches, or texts are not integers.
            ValueError: the numbers of texts and images differ, or texts are not texts of the
                vocabulary.

        Example:
            >>> model.predict_boxes(images[:1], tokenizer(["a red star"]))
            tensor([[0.2510, 0.1270, 0.4830, 0.3990]])
        """
        self._require_images(images)
        words = words_of(self.head.vocabulary, "texts", texts)
        if len(texts) != len(images):
            raise ValueError(
                f"texts must have {len(images)} rows, as many as images, got {len(texts)}"
            )
        with evaluated(self):
            bins = referred_boxes(self.head, self._seen(images)[1], words)
        return dequantize_boxes(bins, self.head.vocabulary.bins)

    @torch.no_grad()
    def describe(self, images: Tensor) -> Description:
        """Return one box per image and a text about its content: the task GCAP.

        The model computes as in evaluation mode, and chooses the most probable tokens.

        Args:
            images: (B, channels, height, width), floating-point.

        Raises:
            TypeError: `images` are a padded batch of patches.

        Example:
            >>> boxes, tokens = model.describe(images)
            >>> fastclip.decode(tokens[0])
        """
        self._require_images(images)
        vocabulary = self.head.vocabulary
        with evaluated(self):
            bins, tokens = written(self.head, self._seen(images)[1], vocabulary.gcap, COORDINATES)
        return Description(dequantize_boxes(bins, vocabulary.bins), tokens)

    @torch.no_grad()
    def caption(self, images: Tensor) -> Tensor:
        """Return (B, T) int64 tokens of a caption of each image: the task Cap.

        The model computes as in evaluation mode, and chooses the most probable tokens.

        Args:
            images: (B, channels, height, width), floating-point.

        Raises:
            TypeError: `images` are a padded batch of patches.

        Example:
            >>> fastclip.decode(model.caption(images)[0])
        """
        self._require_images(images)
        with evaluated(self):
            return written(self.head, self._seen(images)[1], self.head.vocabulary.cap, 0)[1]

    def _seen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features, not normalised, and (B, S, width) tokens, in one pass.

        The tokens are the result of `visual.patch_tokens(images)`.
        """
        tower = self.pair.visual
        found = intermediates_of(
            tower, images, indices=[-1], output_fmt="NLC",
            normalize_intermediates=getattr(tower, "reads_normed", False),
        )  # fmt: skip
        return found["image_features"], found["image_intermediates"][0]

    def _named(self, outputs: object) -> dict[str, Tensor]:
        if isinstance(outputs, Mapping):
            return dict(outputs)
        names = ("image_features", "text_features", "logit_scale", "logit_bias")
        return dict(zip(names, outputs, strict=False))

    def _require_images(self, images: Tensor) -> None:
        if isinstance(images, Mapping):
            raise TypeError(
                "images must be a tensor of images of one size, got a mapping with "
                f"{', '.join(map(str, images))}: the decoder reads all tokens of an image, and "
                "would read the padding of a batch of patches as part of the image"
            )

    def _require(self, images: Tensor, texts: Mapping[str, Tensor]) -> None:
        self._require_images(images)
        if not isinstance(texts, Mapping):
            raise TypeError(
                f"texts must be a mapping with {', '.join(NEEDED)}, got {type(texts).__name__}"
            )
        if not len(images):
            raise ValueError(f"images must have at least one row, got {tuple(images.shape)}")
        for name in NEEDED:
            if name not in texts:
                raise ValueError(f"texts must have {name}, got {sorted(texts)}")
        for name, part in texts.items():
            if name not in NEEDED + OPTIONAL:
                raise ValueError(
                    f"texts may have only {', '.join(NEEDED + OPTIONAL)}, got {name!r}"
                )
            if len(part) != len(images):
                raise ValueError(
                    f"{name} must have {len(images)} rows, as many as images, got {len(part)}"
                )
        if texts["boxes"].ndim != 2:
            raise ValueError(f"boxes must be (B, 4), got {tuple(texts['boxes'].shape)}")
        parallel = texts.get("parallel")
        if parallel is not None and (parallel.dtype != torch.bool or parallel.ndim != 1):
            raise TypeError(
                f"parallel must be (B,) bool, got {tuple(parallel.shape)} {parallel.dtype}"
            )
