"""The settings of the loss of a training step: which one it is, and what its options are."""

import math
from dataclasses import dataclass

from fastclip.losses.family.prefixes import checked_dims, checked_weights
from fastclip.ops.clip_options import DIRECTIONS, options_of_numbers
from fastclip.train.settings.setting import Settings, setting

CLIP, SIGLIP, QUEUE, DCL, INFOLOOB, SOGCLR = (
    "clip", "siglip", "queue", "dcl", "infoloob", "sogclr"
)  # fmt: skip
CAPTION, IMAGE, BOTH = "caption", "image", "both"  # what is twice in a batch
LOSSES = (CLIP, SIGLIP, QUEUE, DCL, INFOLOOB, SOGCLR)


@dataclass(frozen=True)
class LossConfig(Settings):
    """What the loss of a training step is; validation's stays that of CLIP, and plain."""

    loss: str | None = setting(
        None,
        "The loss to train with. clip is CLIP's, and siglip is --siglip. queue is CLIP's with the "
        "pairs of earlier steps as further negatives. dcl is decoupled contrastive learning, whose "
        "negatives are all other images and all other texts, for images and texts alike. infoloob "
        "is CLIP's without the pair itself in its denominators. sogclr is SogCLR's, which averages "
        "the denominators of each sample over the steps that it was in, and needs data whose "
        "samples have numbers, as all but tar shards has. By default it is clip, or siglip with "
        "--siglip. The loss of validation stays that of CLIP.",
        choices=LOSSES,
    )
    label_smoothing: float = setting(
        0.0,
        "The share of a label that is spread over all texts of an image, and over all images of a "
        "text, as in torch's cross_entropy. It is at least 0 and below 1. The loss of validation "
        "stays the plain one.",
    )
    margin: float = setting(
        0.0,
        "The number that is taken off the cosine of each matching pair before the loss. The loss "
        "of validation stays the plain one.",
    )
    mask_duplicates: str | None = setting(
        None,
        "Pairs of a batch, of all ranks, that are no negatives of each other, because they have "
        "the same caption, the same image, or one of both. A caption is what the model reads of "
        "it, its tokens; an image is its file, before it is augmented. With both, pairs that "
        "others connect count as the same too. The number of (image, text) that are left out of a "
        "step is in the log. By default none is.",
        choices=(CAPTION, IMAGE, BOTH),
    )
    queue_size: int = setting(
        65_536,
        "The number of images, and of texts, of earlier steps that --loss queue keeps as "
        "negatives.",
        least=1,
    )
    dcl_sigma: float | None = setting(
        None,
        "The sigma of the weighted form of --loss dcl, DCLW, in which pairs that are alike already "
        "count less; 0.5 is that of its authors. By default no pair has a weight.",
    )
    sogclr_gamma: float = setting(
        0.8,
        "The share of the new step in the averages of --loss sogclr. It is above 0 and at most 1.",
    )
    sogclr_rho: float = setting(
        8.0,
        "The number in --loss sogclr that keeps the scale, which is learned, from growing without "
        "end: a larger one lets it grow further.",
    )
    distill_model: str | None = setting(
        None,
        "The teacher of a distillation: the name of a model, with its weights as "
        "--distill-pretrained, or a repository, a directory, the directory of a run, or a "
        "checkpoint. The loss is that of CLIP plus that of the teacher's softmaxes as targets. "
        "The teacher has to take the same images and tokens as the model.",
    )
    distill_pretrained: str | None = setting(
        None,
        "The weights of --distill-model where that is the name of a model: a tag, or the path of a "
        "file.",
    )
    matryoshka_dims: tuple[int, ...] | None = setting(
        None,
        "The lengths, such as 64 128 256 512, to which embeddings may be cut: the loss is the sum "
        "of CLIP's loss at each of them, of embeddings that are normalised after the cut. Each is "
        "in the log. The whole length is among them only if it is named.",
        of_number=lambda dim: (dim,),
    )
    matryoshka_weights: tuple[float, ...] | None = setting(
        None,
        "The weights in the sum of --matryoshka-dims, one for each; the log has the losses times "
        "their weights. By default each is 1.",
        of_number=lambda weight: (weight,),
    )

    coca_caption_loss_weight: float = setting(
        2.0,
        "The weight of the loss of captions in the training of a CoCa model, which is the mean "
        "cross-entropy of their tokens. The log has it times its weight. Other models write no "
        "captions, and refuse another weight.",
    )
    coca_contrastive_loss_weight: float = setting(
        1.0,
        "The weight of the loss of CLIP in the training of a CoCa model; with 0 it is not "
        "computed. The log has it times its weight. Other models have that loss alone, and refuse "
        "another weight.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        options_of_numbers(self.label_smoothing, self.margin, DIRECTIONS)
        is_sigma = self.dcl_sigma is None or 0 < self.dcl_sigma < math.inf
        self._require(is_sigma, "dcl_sigma", "finite and above 0")
        self._require(0 < self.sogclr_gamma <= 1, "sogclr_gamma", "above 0 and at most 1")
        self._require(math.isfinite(self.sogclr_rho), "sogclr_rho", "finite")
        weights = ("coca_caption_loss_weight", "coca_contrastive_loss_weight")
        for name in weights:
            is_weight = 0 <= getattr(self, name) < math.inf
            self._require(is_weight, name, "finite and at least 0")
        self._require(any(getattr(self, name) for name in weights), weights[0],
                      "above 0 with coca_contrastive_loss_weight 0")  # fmt: skip
        has_model = self.distill_model is not None or self.distill_pretrained is None
        self._require(has_model, "distill_pretrained", "left out without distill_model")
        self._check_matryoshka()

    def _check_matryoshka(self) -> None:
        if self.matryoshka_dims is None:
            has_none = self.matryoshka_weights is None
            self._require(has_none, "matryoshka_weights", "left out without matryoshka_dims")
            return
        try:
            checked_weights(self.matryoshka_weights, checked_dims(self.matryoshka_dims))
        except ValueError as error:
            raise ValueError(f"matryoshka_{error}") from None
