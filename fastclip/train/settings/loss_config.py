"""The settings of the loss of a training step: which loss it is, and what its options are."""

import math
from dataclasses import dataclass

from fastclip.losses.family.prefixes import checked_dims, checked_weights
from fastclip.ops.clip_options import DIRECTIONS, options_of_numbers
from fastclip.train.settings.setting import Settings, setting

CLIP, SIGLIP, QUEUE, DCL, INFOLOOB, SOGCLR = (
    "clip", "siglip", "queue", "dcl", "infoloob", "sogclr"
)  # fmt: skip
CAPTION, IMAGE, BOTH = "caption", "image", "both"  # what duplicates in a batch have in common
LOSSES = (CLIP, SIGLIP, QUEUE, DCL, INFOLOOB, SOGCLR)


@dataclass(frozen=True)
class LossConfig(Settings):
    """The loss of a training step; the validation loss is always the plain loss of CLIP."""

    loss: str | None = setting(
        None,
        "The loss to train with. clip is the loss of CLIP, and siglip is the loss that --siglip "
        "chooses. queue is the loss of CLIP with the pairs of earlier steps as further negatives. "
        "dcl is decoupled contrastive learning, whose negatives are all other images and all other "
        "texts, for images and texts alike. infoloob is the loss of CLIP without the pair itself "
        "in its denominators. sogclr is the loss of SogCLR, which averages the denominators of "
        "each sample over the steps that contained the sample; it needs data with numbered "
        "samples, that is, any data but tar shards. By default it is clip, or siglip with "
        "--siglip. The validation loss is always the loss of CLIP.",
        choices=LOSSES,
    )
    label_smoothing: float = setting(
        0.0,
        "The fraction of a label that is spread evenly over all texts for an image, and over all "
        "images for a text, as in torch's cross_entropy. It must be at least 0 and below 1. The "
        "validation loss has no label smoothing.",
    )
    margin: float = setting(
        0.0,
        "The number that is subtracted from the cosine of each matching pair before the loss. The "
        "validation loss has no margin.",
    )
    mask_duplicates: str | None = setting(
        None,
        "The duplicates that are not negatives of each other in the batch of all ranks: pairs with "
        "the same caption, with the same image, or, with both, pairs that share either of them, "
        "directly or through other pairs. Captions are the same if the model reads the same "
        "tokens, and images if their files are, before augmentation. The log says how many (image, "
        "text) a step leaves out. With --loss queue, caption and image also leave out duplicates "
        "of earlier steps, which the log counts apart; both is refused there, because it connects "
        "pairs within one step only. By default, no pair is left out.",
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
        "The decay of the encoder of keys of --loss queue, such as 0.995. This encoder is an "
        "average of the weights, which follows the model and is not trained; it encodes the pairs "
        "of each step once more, and the negatives are its embeddings (MoCo, ALBEF). The decay is "
        "the fraction of the average that stays at each step, above 0 and below 1. By default, the "
        "model that is trained makes the keys.",
    )
    dcl_sigma: float | None = setting(
        None,
        "The sigma of DCLW, the weighted form of --loss dcl, in which pairs that are already alike "
        "count less. The authors of DCLW use 0.5. By default, pairs have no weights.",
    )
    sogclr_gamma: float = setting(
        0.8,
        "The fraction of the newest step in the averages of --loss sogclr. It must be above 0 and "
        "at most 1.",
    )
    sogclr_rho: float = setting(
        8.0,
        "The number that keeps the learned scale in --loss sogclr from growing without end. With a "
        "larger number the scale grows further.",
    )
    distill_model: tuple[str, ...] | None = setting(
        None,
        "The teachers of a distillation, one or more. Each teacher is the name of a model (whose "
        "weights --distill-pretrained gives), a repository, a directory, the directory of a run, "
        "or a checkpoint. The loss is the loss of CLIP plus a cross-entropy whose targets are the "
        "softmax of the teacher, or the mean of the softmaxes of several teachers. Every teacher "
        "must take the same images and tokens as the model.",
        of_text=lambda name: (name,),
    )
    distill_pretrained: tuple[str, ...] | None = setting(
        None,
        "The weights of each --distill-model, in the same order: a tag or the path of a file for "
        "the name of a model, and - for a teacher that comes with weights.",
        of_text=lambda weights: (weights,),
    )
    distill_embeddings: tuple[str, ...] | None = setting(
        None,
        "The folders of further teachers whose embeddings are stored, one or more. `fastclip "
        "embed` has written each folder with a teacher of any size and tokenizer, from the images "
        "and the texts of --train-data. Such a teacher has seen each image once, without the "
        "augmentation that the model sees, and the caption that the model reads. A sample without "
        "an embedding is left out and counted as bad.",
        of_text=lambda folder: (folder,),
    )
    distill_logit_scale: tuple[float, ...] | None = setting(
        None,
        "The logit scale of each --distill-embeddings, such as 100: the teacher's logits are its "
        "cosines times this scale. By default it is the logit scale of the model that the folder "
        "names; it must be given if a folder names no model.",
        of_number=lambda scale: (scale,),
    )
    matryoshka_dims: tuple[int, ...] | None = setting(
        None,
        "The lengths, such as 64 128 256 512, to which embeddings may be cut. The loss is the sum "
        "of CLIP's losses at these lengths, each of embeddings that are normalised after the cut. "
        "The log has the loss at each length. The whole length counts only if it is listed.",
        of_number=lambda dim: (dim,),
    )
    matryoshka_weights: tuple[float, ...] | None = setting(
        None,
        "The weight of each of --matryoshka-dims in the sum of losses. The log has the losses "
        "times their weights. By default every weight is 1.",
        of_number=lambda weight: (weight,),
    )

    coca_caption_loss_weight: float = setting(
        2.0,
        "The weight of the caption loss of a CoCa model, which is the mean cross-entropy of the "
        "tokens of captions. The log has the loss times its weight. Models that write no captions "
        "refuse any other value than the default.",
    )
    coca_contrastive_loss_weight: float = setting(
        1.0,
        "The weight of the contrastive loss of a CoCa model; with 0 this loss is not computed. The "
        "log has the loss times its weight. Models that write no captions refuse any other value "
        "than the default.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        options_of_numbers(self.label_smoothing, self.margin, DIRECTIONS)
        is_stable = self.loss != QUEUE or self.mask_duplicates != BOTH
        self._require(
            is_stable,
            "mask_duplicates",
            "caption or image with the loss queue, whose keys keep their ids from step to step "
            "(both numbers the duplicates anew in each step)",
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
                      "above 0 if coca_contrastive_loss_weight is 0")  # fmt: skip
        self._check_matryoshka()

    @property
    def distilled_by(self) -> str | None:
        """The first setting that names teachers, or None if no setting does."""
        names = ("distill_model", "distill_embeddings")
        return next((name for name in names if getattr(self, name) is not None), None)

    def _check_one_for_each(self, name: str, of: str) -> None:
        """Require that `name` has one value for each value of `of`, or is not given."""
        values, subjects = getattr(self, name), getattr(self, of)
        self._require(subjects != (), of, "at least one, or left out")
        if values is None:
            return
        self._require(subjects is not None, name, f"left out if {of} is not given")
        self._require(
            len(values) == len(subjects), name, f"as many values as {of} has, {len(subjects)}"
        )

    def _check_matryoshka(self) -> None:
        if self.matryoshka_dims is None:
            has_none = self.matryoshka_weights is None
            self._require(
                has_none, "matryoshka_weights", "left out if matryoshka_dims is not given"
            )
            return
        try:
            checked_weights(self.matryoshka_weights, checked_dims(self.matryoshka_dims))
        except ValueError as error:
            raise ValueError(f"matryoshka_{error}") from None
