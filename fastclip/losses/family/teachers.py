"""The teachers of a distillation: their checked arguments, and their scores of a batch."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from fastclip.losses.family.inputs import checked_features, positive_scale
from fastclip.losses.family.scores import Scores, single
from fastclip.ops import validation
from fastclip.ops.differentiation import needs_grad
from fastclip.ops.merge import Statistics, merge

IMAGES, TEXTS, SCALE = "dist_image_features", "dist_text_features", "dist_logit_scale"


class Teacher(NamedTuple):
    """A teacher's features of this process's batch, and its scale."""

    image_features: Tensor  # (B, K), K the teacher's own
    text_features: Tensor  # (B, K)
    given_scale: float | Tensor
    logit_scale: Tensor  # ()


class TeacherScores(NamedTuple):
    """A teacher's scores of this process's images and the texts that are held here at once."""

    images: Tensor  # (M, K)
    texts: Tensor  # (N, K)
    logit_scale: Tensor  # ()
    of_rows: Statistics  # (M,), all scores of each row
    of_cols: Statistics  # (N,)


def checked_teachers(
    image_features: Tensor | Sequence[Tensor],
    text_features: Tensor | Sequence[Tensor],
    logit_scale: float | Tensor | Sequence[float | Tensor],
    student: Tensor,
) -> list[Teacher]:
    """Return the teachers: one, or one for each entry of three sequences of one length.

    Args:
        student: (B, D), the student's features, which give the number of rows and the device.

    Raises:
        TypeError, ValueError: with the argument's name, and its place in the sequence.
    """
    named = {IMAGES: image_features, TEXTS: text_features, SCALE: logit_scale}
    are_lists = {name: isinstance(given, (list, tuple)) for name, given in named.items()}
    if not any(are_lists.values()):
        return [_checked_teacher(*named.items(), student)]
    if not all(are_lists.values()):
        raise TypeError(
            f"{IMAGES}, {TEXTS} and {SCALE} must be sequences with one entry per teacher, or "
            f"all of one teacher; got sequences for {[n for n, x in are_lists.items() if x]} only"
        )
    lengths = [len(given) for given in named.values()]
    if len(set(lengths)) > 1 or lengths[0] == 0:
        raise ValueError(
            f"{IMAGES}, {TEXTS} and {SCALE} must have one entry per teacher and at least one, got "
            f"{lengths[0]}, {lengths[1]} and {lengths[2]}"
        )
    return [
        _checked_teacher(
            *((f"{name}[{i}]", x) for name, x in zip(named, entries, strict=True)), student
        )
        for i, entries in enumerate(zip(*named.values(), strict=True))
    ]


def check_same_teachers(teachers: Sequence[Teacher], scores: Scores) -> None:
    """Raise ValueError if another process has other teachers, judged by sizes and scales."""
    scores.check_same({"the number of teachers": len(teachers)})
    for i, (images, _, given_scale, _) in enumerate(teachers):
        dtype = validation.FEATURE_DTYPES.index(images.dtype)
        is_tensor = isinstance(given_scale, Tensor)
        scores.check_same(
            {
                f"D of {IMAGES}[{i}]": images.shape[1],
                f"the dtype of {IMAGES}[{i}]": dtype,
                f"{SCALE}[{i}]": -1 if is_tensor else given_scale,
            }
        )


def scores_of_teacher(teacher: Teacher, scores: Scores) -> TeacherScores:
    """Return a teacher's scores and their statistics, over the processes of `scores`."""
    # The same products as in the softmax itself: the products of another backend are rounded
    # differently, so that the softmax would not add up to 1: at a scale of 100, by 1e-5.
    own = dataclasses.replace(scores, logit_scale=teacher.logit_scale, backend="chunked")
    images, texts = teacher.image_features, teacher.text_features
    positive, of_images, of_texts = own.of_both(images, texts)
    of_rows, of_cols = (merge([single(positive), others]) for others in (of_images, of_texts))
    texts, *of_cols = map(scores.of_columns, (texts, *of_cols))
    return TeacherScores(images, texts, teacher.logit_scale, of_rows, tuple(of_cols))


def _checked_teacher(
    images: tuple[str, Tensor],
    texts: tuple[str, Tensor],
    scale: tuple[str, float | Tensor],
    student: Tensor,
) -> Teacher:
    image_features, text_features = checked_features(dict((images, texts)))
    name = images[0]
    if len(image_features) != len(student):
        raise ValueError(
            f"{name} must have as many rows as image_features, {len(student)}, "
            f"got {len(image_features)}"
        )
    if image_features.device != student.device:
        raise ValueError(
            f"{name} must be on the device of image_features, {student.device}, "
            f"got {image_features.device}"
        )
    given_scale = positive_scale(*scale, image_features)
    logit_scale = validation.scalar_tensor(scale[0], given_scale, image_features)
    checked = (image_features, text_features, logit_scale)
    for (name, _), x in zip((images, texts, scale), checked, strict=True):
        if needs_grad(x):
            raise ValueError(
                f"{name} must not require a gradient, because teachers are constants: compute it "
                "under torch.no_grad(), or .detach() it"
            )
    return Teacher(image_features, text_features, given_scale, logit_scale)
