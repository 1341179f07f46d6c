"""Teachers of a distillation whose embeddings of the training data are stored in folders.

`fastclip embed` writes such a folder. The place of a sample in its source tells which row belongs
to the sample, once the folder and the run are known to use the same data.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.quoting import quoted
from fastclip.data.sources.source import Contents, Place
from fastclip.embeddings.layout import METADATA
from fastclip.embeddings.manifest import Manifest
from fastclip.embeddings.reader import Embeddings, open_embeddings
from fastclip.train.run.teacher import NUM_LETTERS
from fastclip.train.settings.loss_config import LossConfig

NO_EMBEDDING = "no embedding of a teacher"
NOT_FINITE = "embedding of a teacher is not finite"


class StoredTeacher:
    """The embeddings of images and texts in a folder, which stay on the disk until they are needed.

    Args:
        folder: written by `fastclip embed`, whole or in shards, in any format of vectors.
        logit_scale: of the teacher; None takes the logit scale of the model that the folder names.

    Raises:
        OSError: a file cannot be read.
        ValueError: the folder is damaged or incomplete, lacks images or texts, has no unit vectors,
            or does not say which data was embedded, which sample each row belongs to, or what the
            logit scale is.
    """

    def __init__(self, folder: str, logit_scale: float | None = None) -> None:
        self.folder, self._given_scale = folder, logit_scale
        self._embeddings = found = open_embeddings(folder, with_metadata=False)
        if (objection := _objection_to(found)) is not None:
            raise ValueError(f"{folder} cannot be a teacher: {objection}")
        self.logit_scale = _logit_scale_of(folder, self.manifest, logit_scale)

    def __reduce__(self) -> tuple:
        # Pickling the object itself would copy the memory-mapped arrays whole.
        return StoredTeacher, (self.folder, self._given_scale)

    @property
    def manifest(self) -> Manifest:
        return self._embeddings.manifest

    @property
    def num_missing(self) -> int:
        """The number of samples of the data that could not be embedded."""
        accounts = (part.manifest.skipped.account for part in self._embeddings.parts)
        return sum(BadSamples.from_dict(account).num_bad for account in accounts)

    def __call__(self, place: Place) -> tuple[Tensor, Tensor] | str:
        """Return the (K,) float32 embeddings of a sample's image and text, or the reason for none.

        Args:
            place: of the sample in the training data.
        """
        found = self._embeddings
        row = found.places.row_of(place)
        if row is None:
            return NO_EMBEDDING
        image, text = (torch.from_numpy(s.rows([row])[0]) for s in (found.images, found.texts))
        is_finite = image.isfinite().all() and text.isfinite().all()
        return (image, text) if is_finite else NOT_FINITE

    def require_data(self, digest: str, name: str | None) -> None:
        """Raise ValueError unless the rows were made from the data with this digest.

        Args:
            digest: see `digest_of_contents`.
            name: of the data, for the message.
        """
        source = self.manifest.source
        if source.contents != digest:
            raise ValueError(
                f"{self.folder} cannot be a teacher: it has embeddings of {quoted(source.name)}, "
                f"which is other data than --train-data {name}: the files, or the columns or "
                "suffixes of images and captions, differ"
            )

    def contents(self) -> Contents:
        """Return what identifies its features; see `contents.py`."""
        digest = hashlib.sha256()
        for part in self._embeddings.parts:
            for file in part.manifest.files:
                kept = {kind: value for kind, value in file.sha256.items() if kind != METADATA}
                digest.update(repr(sorted(kept.items())).encode())
        model = self.manifest.model
        of_model = [] if model is None else [
            ("weights", model.weights[:NUM_LETTERS]),
            ("configuration", model.configuration[:NUM_LETTERS]),
        ]  # fmt: skip
        return [*of_model, ("embeddings", digest.hexdigest()[:NUM_LETTERS])]

    def description(self) -> str:
        """Return a line about the teacher for the log."""
        model, missing = self.manifest.model, self.num_missing
        whose = "a model without a name" if model is None else quoted(model.name)
        told = (
            f"teacher {self.folder}: {len(self._embeddings):,} embeddings of {whose}, with logit "
            f"scale {self.logit_scale:.4g}"
        )
        without = f"; samples without an embedding, which training leaves out: {missing:,}"
        return told + without if missing else told


class StoredTeachers:
    """All stored teachers, which find the embeddings of a sample: a `Beside` of the loader.

    Attributes:
        names: the names of the embeddings in the facts of a batch: images and texts per teacher.
    """

    def __init__(self, teachers: Sequence[StoredTeacher]) -> None:
        self.teachers = list(teachers)
        numbers = range(len(self.teachers))
        self.names = [name for number in numbers for name in names_of(number)]

    def __call__(self, place: Place) -> tuple[Tensor, ...] | str:
        """Return the embeddings of a sample in the order of `names`, or the reason for none."""
        found: tuple[Tensor, ...] = ()
        for teacher in self.teachers:
            of_teacher = teacher(place)
            if isinstance(of_teacher, str):
                return of_teacher
            found += of_teacher
        return found


def names_of(number: int) -> tuple[str, str]:
    """Return the names in a batch's facts of the images and texts of stored teacher `number`."""
    return f"stored_images_{number}", f"stored_texts_{number}"


def open_stored_teachers(config: LossConfig) -> StoredTeachers | None:
    """Open each of `config.distill_embeddings`, or return None without any; see `StoredTeacher`."""
    if config.distill_embeddings is None:
        return None
    folders = config.distill_embeddings
    scales = config.distill_logit_scale or (None,) * len(folders)
    return StoredTeachers([StoredTeacher(*given) for given in zip(folders, scales, strict=True)])


def _objection_to(found: Embeddings) -> str | None:
    """Return why a folder cannot be used in a distillation, or None."""
    if found.manifest is None:
        return "it has no manifest to say which data was embedded; fastclip embed writes one"
    if found.manifest.source is None:
        return "its manifest does not say which data was embedded"
    for side, of in ((found.images, "images"), (found.texts, "texts")):
        if side is None:
            return f"it has no embeddings of {of}: fastclip embed --images --texts writes both"
    if found.places is None:
        return (
            "it does not say which sample each row belongs to, because an earlier version of "
            "fastclip embed wrote it: embed the data again"
        )
    return None if found.manifest.normalized else "its embeddings are not unit vectors"


def _logit_scale_of(folder: str, manifest: Manifest, given: float | None) -> float:
    if given is not None:
        return given
    if manifest.model is None:
        raise ValueError(
            f"distill_logit_scale must be given: {folder} does not name the model that made its "
            "embeddings"
        )
    scale = manifest.model.logit_scale
    if not 0 < scale < math.inf:
        raise ValueError(
            f"{folder} cannot be a teacher: the logit scale of its model must be finite and above "
            f"0, got {scale}"
        )
    return float(scale)
