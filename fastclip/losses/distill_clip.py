"""Distillation of a CLIP model: the teachers' softmaxes are the student's targets."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.groups import find_group
from fastclip.functional import clip_loss
from fastclip.losses.clip import ClipLoss
from fastclip.losses.family.inputs import checked_features, positive_scale
from fastclip.losses.family.prepare import scores_of
from fastclip.losses.family.teacher_sums import teacher_sums
from fastclip.losses.family.teachers import check_same_teachers, checked_teachers, scores_of_teacher
from fastclip.ops.side_ids import side_ids


def distill_clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    dist_image_features: Tensor | Sequence[Tensor],
    dist_text_features: Tensor | Sequence[Tensor],
    dist_logit_scale: float | Tensor | Sequence[float | Tensor],
    *,
    backend: str = "auto",
    workspace: int | None = None,
    process_group: ProcessGroup | None = None,
    schedule: str = "gather",
    ids: Tensor | None = None,
    image_ids: Tensor | None = None,
    text_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return `fastclip.clip_loss`, and the cross-entropy of the logits with teachers' softmaxes.

        logits_ij    = logit_scale * <image_i, text_j>
        target_i.    = mean over teachers of softmax over j of the teacher's logits_ij
        target_.j    = mean over teachers of softmax over i of the teacher's logits_ij
        distill_loss = mean over i of -(sum over j of target_ij log softmax_j(logits_i.)_j
                                      + the same for texts) / 2

    Neither the student's nor the teachers' logits are held: extra memory is O(B D) and one block
    within the workspace. The distillation loss is computed as `clip_loss` plus a sum over the pairs
    that do not match, which keeps it accurate also where student and teachers both fit the data.

    Args:
        image_features: (B, D), float32, bfloat16, float16 or float64, any strides; unit rows.
        text_features: (B, D), same dtype and device.
        logit_scale: number, or tensor of one element on the features' device, > 0; not its log.
        dist_image_features: (B, K), unit rows, of one teacher with any K; or a list or tuple with
            one matrix per teacher, whose K and dtype may differ. On the same device.
        dist_text_features: (B, K), with the dtype of the teacher's images; or one per teacher.
        dist_logit_scale: number or tensor of one element; or one per teacher.
        backend: computes the student's softmax, see `fastclip.clip_loss`. PyTorch computes the
            teachers' softmaxes in blocks on every device, in float32, or in float64 for float64
            features.
        workspace: bytes, as for `fastclip.clip_loss`. What that loss keeps may take as many, and
            one block of the teachers' weights as many again.
        process_group: None is this process alone. With a group both losses are over the N pairs of
            all its ranks, with exact gradients under DDP's mean: see `fastclip.clip_loss`.
        schedule: "gather" holds the texts of all ranks at once, the student's and the teachers';
            "ring" holds the texts of one rank at a time: see `fastclip.clip_loss`.
        ids, image_ids, text_ids: say which pairs are not negatives in the contrastive loss, see
            `fastclip.clip_loss`. The distillation ignores them: its softmaxes, the student's and
            the teachers', are over all texts and all images, because teachers say what is alike.
            With ids the student's softmax is computed twice.

    Returns:
        contrastive_loss and distill_loss, unweighted, float32 tensors (float64 for float64
        features) of shape (). Both have gradients for the student's features and `logit_scale`.

    Raises:
        TypeError, ValueError: as `fastclip.clip_loss`, also for the arguments of teachers; there is
            not one entry per teacher; a teacher has another number of rows than the student, or
            requires a gradient (teachers are constants). Over a group: ranks disagree.
        RuntimeError: the named backend cannot take these inputs, or another derivative is requested
            than the first in reverse mode.

    Source:
        open_clip 3.3.0, `open_clip.loss.DistillClipLoss`. The mean after the softmax: Vasu et al.
        2024 (MobileCLIP), arXiv:2311.17049.

    Example:
        >>> with torch.no_grad():
        ...     teacher_images, teacher_texts, teacher_scale = teacher(images, texts)
        >>> contrastive, distill = fastclip.distill_clip_loss(
        ...     *student(images, texts), teacher_images, teacher_texts, teacher_scale)
        >>> (contrastive + distill).backward()
    """
    image_features, text_features = checked_features(
        {"image_features": image_features, "text_features": text_features}
    )
    scale = positive_scale("logit_scale", logit_scale, image_features)
    teachers = checked_teachers(
        dist_image_features, dist_text_features, dist_logit_scale, image_features
    )
    same = side_ids(image_features, ids, image_ids=image_ids, text_ids=text_ids)
    scores = scores_of(
        "distill_clip_loss", image_features, text_features, scale, False, backend, workspace,
        process_group=process_group, ids=same, schedule=schedule,
    )  # fmt: skip
    check_same_teachers(teachers, scores)
    options = dict(
        backend=backend, workspace=workspace, process_group=process_group, schedule=schedule
    )
    of_pairs = clip_loss(image_features, text_features, scale, **options)
    contrastive = of_pairs
    if same is not None:
        images, texts = same
        contrastive = clip_loss(
            image_features, text_features, scale, image_ids=images, text_ids=texts, **options
        )
    # Targets add up to 1. The cross-entropy with them is therefore the cross-entropy with the own
    # pair, plus each other target times the difference between the own pair's logit and its own.
    product, row_mass, col_mass = teacher_sums(
        scores.prepared(image_features),
        scores.prepared(scores.of_columns(text_features)),
        [scores_of_teacher(teacher, scores) for teacher in teachers],
        scores.start,
        workspace,
        scores.visitors,
    )
    own = scores.of_pairs(image_features, text_features)
    of_rows = (row_mass * own).sum(dtype=torch.float64)
    of_cols = (col_mass * scores.of_columns(own)).sum(dtype=torch.float64)
    others = (of_rows + of_cols - scores.logit_scale * product) / 2
    num_rows = torch.full_like(others, len(image_features))
    others = scores.reduce(others[None], "mean", num_rows[None])
    return contrastive, of_pairs + others.to(of_pairs.dtype)


class DistillClipLoss(ClipLoss):
    """Drop-in for `open_clip.DistillClipLoss`, without the logits of student or teacher in memory.

    See `fastclip.distill_clip_loss`. Over several ranks both losses are over all their pairs.

    Args:
        local_loss, gather_with_grad, cache_labels, rank, world_size, use_horovod: as `ClipLoss`.
        backend, workspace, process_group, schedule: see `fastclip.distill_clip_loss`.

    Raises:
        TypeError, ValueError, NotImplementedError: as `ClipLoss`.

    Example:
        >>> loss = fastclip.DistillClipLoss()
        >>> contrastive, distill = loss(images, texts, scale, *teacher_features, teacher_scale)
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        use_horovod: bool = False,
        *,
        backend: str = "auto",
        workspace: int | None = None,
        process_group: ProcessGroup | None = None,
        schedule: str = "gather",
    ) -> None:
        super().__init__(
            local_loss, gather_with_grad, cache_labels, rank, world_size, use_horovod,
            backend=backend, workspace=workspace, process_group=process_group, schedule=schedule,
        )  # fmt: skip

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        dist_image_features: Tensor | Sequence[Tensor],
        dist_text_features: Tensor | Sequence[Tensor],
        dist_logit_scale: float | Tensor | Sequence[float | Tensor],
        output_dict: bool = False,
        *,
        ids: Tensor | None = None,
        image_ids: Tensor | None = None,
        text_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        """Return both losses, or {"contrastive_loss": ..., "distill_loss": ...} if `output_dict`.

        Args:
            image_features, text_features, logit_scale: (B, D), (B, D) and the student's scale.
            dist_image_features, dist_text_features, dist_logit_scale: one teacher's, or a list of
                each with one entry per teacher; see `fastclip.distill_clip_loss`.
            ids, image_ids, text_ids: (B,) int64, of this rank's pairs; see the function.
        """
        contrastive, distill = distill_clip_loss(
            image_features, text_features, logit_scale,
            dist_image_features, dist_text_features, dist_logit_scale,
            backend=self.backend, workspace=self.workspace,
            process_group=find_group(self.rank, self.world_size, self.process_group),
            schedule=self.schedule, ids=ids, image_ids=image_ids, text_ids=text_ids,
        )  # fmt: skip
        if output_dict:
            return {"contrastive_loss": contrastive, "distill_loss": distill}
        return contrastive, distill
