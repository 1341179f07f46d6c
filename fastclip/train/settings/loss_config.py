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
        "step is in the log. With --loss queue, caption and image leave out what is the same of "
        "earlier steps too, which is counted apart, and both is refused: it finds what is "
        "connected in one step. By default none is.",
        choices=(CAPTION, IMAGE, BOTH),
    )
    queue_size: int = setting(
        65_536,
        "The number of images, and of texts, of earlier steps that --loss queue keeps as "
        "negatives.",
        least=1,
    )
    queue_momentum: float | None = setting(
        None,
        "The share of the encoder of keys that stays at each step of --loss queue, such as 0.995: "
        "an average of the weights, which follows the model and is not trained, encodes each step "
        "once more, and the negatives are its embeddings (MoCo, ALBEF). It is above 0 and below 1. "
        "By default the model that is trained makes the keys.",
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
    distill_model: tuple[str, ...] | None = setting(
        None,
        "The teachers of a distillation, one or more, each of them the name of a model, with its "
        "weights as --distill-pretrained, or a repository, a directory, the directory of a run, or "
        "a checkpoint. The loss is that of CLIP plus that of the teachers' softmaxes, or of their "
        "mean, as targets. Every teacher has to take the same images and tokens as the model.",
        of_text=lambda name: (name,),
    )
    distill_pretrained: tuple[str, ...] | None = setting(
        None,
        "The weights of each --distill-model that is the name of a model, a tag or the path of a "
        "file, in the order of the teachers; - stands for those of a teacher that has its own.",
        of_text=lambda weights: (weights,),
    )
    distill_embeddings: tuple[str, ...] | None = setting(
        None,
        "The folders, one or more, of further teachers that are not computed: `fastclip embed` has "
        "written each with a teacher of any size and tokenizer, of the images and the texts of "
        "--train-data. Such a teacher has seen each image as it is embedded, whatever augmentation "
        "the model sees, and the caption that the model reads. A sample without an embedding is "
        "left out and counted as bad.",
        of_text=lambda folder: (folder,),
    )
    distill_logit_scale: tuple[float, ...] | None = setting(
        None,
        "The factor of the cosines of each --distill-embeddings in the teacher's logits, such as "
        "100. By default it is that of the model that the folder names; it must be given where a "
        "folder names none.",
        of_number=lambda scale: (scale,),
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
        is_stable = self.loss != QUEUE or self.mask_duplicates != BOTH
        self._require(
            is_stable,
            "mask_duplicates",
            "caption or image with queue, whose keys keep their ids from step to step: what both "
            "finds is numbered anew in each step",
        )
        has_keys = self.queue_momentum is None or 0 < self.queue_momentum < 1
        self._require(has_keys, "queue_momentum", "above 0 and below 1")
        is_sigma = self.dcl_sigma is None or 0 < self.dcl_sigma < math.inf
        self._require(is_sigma, "dcl_sigma", "finite and above 0")
        self._require(0 < self.sogclr_gamma <= 1, "sogclr_gamma", "above 0 and at most 1")
        self._require(math.isfinite(self.sogclr_rho), "sogclr_rho", "finite")
        self._check_one_for_each("distill_pretrained", "distill_model")
        self._check_one_for_each("distill_logit_scale", "distill_embeddings")
        scales = self.distill_logit_scale or ()
        are_positive = all(0 < scale < math.inf for scale in scales)
        self._require(are_positive, "distill_logit_scale", "finite and above 0")
        weights = ("coca_caption_loss_weight", "coca_contrastive_loss_weight")
        for name in weights:
            is_weight = 0 <= getattr(self, name) < math.inf
            self._require(is_weight, name, "finite and at least 0")
        self._require(any(getattr(self, name) for name in weights), weights[0],
                      "above 0 with coca_contrastive_loss_weight 0")  # fmt: skip
        self._check_matryoshka()

    @property
    def distilled_by(self) -> str | None:
        """The first setting that names teachers, None without one."""
        names = ("distill_model", "distill_embeddings")
        return next((name for name in names if getattr(self, name) is not None), None)

    def _check_one_for_each(self, name: str, of: str) -> None:
        """Values of `name` are there for each one of `of`, or not at all."""
        values, subjects = getattr(self, name), getattr(self, of)
        self._require(subjects != (), of, "at least one, or left out")
        if values is None:
            return
        self._require(subjects is not None, name, f"left out without {of}")
        self._require(len(values) == len(subjects), name, f"as many as {of}, {len(subjects)}")

    def _check_matryoshka(self) -> None:
        if self.matryoshka_dims is None:
            has_none = self.matryoshka_weights is None
            self._require(has_none, "matryoshka_weights", "left out without matryoshka_dims")
            return
        try:
            checked_weights(self.matryoshka_weights, checked_dims(self.matryoshka_dims))
        except ValueError as error:
            raise ValueError(f"matryoshka_{error}") from None
