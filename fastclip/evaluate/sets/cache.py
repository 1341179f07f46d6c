"""Stored features of sets, in folders of embeddings (`fastclip.embeddings`).

Each set has a folder with a manifest, which records the weights, the preparation of images, the
tokenizer and the data of the vectors. A folder whose manifest does not match raises an error, and
is never overwritten.

    FOLDER/digits-labelled/           img_emb, and the label of each image in the metadata
    FOLDER/digits-held-out-pairs/     img_emb and text_emb, and the number of each pair's image
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.sources.file_stamp import objection_to
from fastclip.embeddings.layout import MANIFEST
from fastclip.embeddings.manifest import Manifest, ModelRecord, SourceRecord, read_manifest
from fastclip.embeddings.reader import open_embeddings
from fastclip.embeddings.side import Side
from fastclip.embeddings.writer import EmbeddingsWriter
from fastclip.evaluate.items import first_of_each
from fastclip.evaluate.sets.features import LabelledFeatures, PairFeatures
from fastclip.models.inference import InferenceModel

ROWS_PER_FILE = 2**16
ROWS_AT_ONCE = 256
OTHER = re.compile(r"[^\w.-]+")
Features = LabelledFeatures | PairFeatures


@dataclass(frozen=True)
class FeatureCache:
    """The stored features of one set, in a folder of its own.

    Args:
        folder: the folder of all sets; it is created if it does not exist.
        ready: the model.
        name: the name of the set, with its split.
        contents: the digest of the set's data.
        stamp: identifies the set's files on this machine; see `Source.stamp`.
        is_pairs: whether the set consists of pairs instead of labelled images.
    """

    folder: Path
    ready: InferenceModel
    name: str
    contents: str
    stamp: str
    is_pairs: bool

    @property
    def path(self) -> Path:
        """The folder of this set."""
        kind = "pairs" if self.is_pairs else "labelled"
        return self.folder / f"{OTHER.sub('_', self.name)}-{kind}"

    def load(self) -> Features | None:
        """Return the stored features, or None if there are none or they are not complete.

        Raises:
            OSError, ValueError: the features belong to another model or to other data, the data's
                files were written since, or the features are damaged or cannot be read.
        """
        if not (self.path / MANIFEST).exists():
            return None
        manifest = read_manifest(self.path)
        if (objection := self._objection_to(manifest)) is not None:
            raise self.refusal(objection)
        if not manifest.is_complete:
            return None  # a process was killed while it wrote them; `save` continues
        found = open_embeddings(self.path, verify=True)
        rows = found.metadata(range(len(found)))
        keys = [row["key"] for row in rows]
        numbers = torch.tensor([row["number"] for row in rows])
        bad = BadSamples.from_dict(manifest.settings["bad_samples"])
        every = torch.arange(len(found))
        if not self.is_pairs:
            return LabelledFeatures(_vectors(found.images, every), numbers, keys, bad)
        images = _vectors(found.images, first_of_each(numbers))
        texts, captions = _vectors(found.texts, every), [row["tokens"] for row in rows]
        return PairFeatures(images, texts, numbers, captions, keys, bad)

    def refusal(self, objection: str) -> ValueError:
        """Return the error that says why the features cannot be used, and what to do."""
        return ValueError(
            f"{self.path}: {objection}; choose another folder for features, or remove this one"
        )

    def save(self, features: Features) -> str | None:
        """Store features. Return a message that says why they were not stored, or None.

        Raises:
            OSError: the features cannot be written.
            ValueError: another process is writing to the folder.
        """
        sides, numbers = _sides(features)
        if not all(side.isfinite().all() for side in sides.values()):
            return "the features are not stored, because some are not finite"
        head = self._manifest(features)
        known = {"key": features.keys, "number": numbers.tolist()}
        if isinstance(features, PairFeatures):
            known["tokens"] = features.captions
        rows = [dict(zip(known, row, strict=True)) for row in zip(*known.values(), strict=True)]
        with EmbeddingsWriter(self.path, head, resume=True) as writer:
            if writer.manifest.is_complete:
                return None  # another process has stored them meanwhile
            for start in range(writer.manifest.rows, len(rows), ROWS_PER_FILE):
                part = slice(start, start + ROWS_PER_FILE)
                writer.add({name: side[part].numpy() for name, side in sides.items()}, rows[part])
                writer.end_file()
            writer.finish()
        return None

    def _manifest(self, features: Features) -> Manifest:
        return Manifest(
            ModelRecord.of(self.ready), SourceRecord(self.name, self.contents, self.stamp),
            "", ("img", "text") if self.is_pairs else ("img",), "f32", "jsonl", ROWS_PER_FILE,
            {"written_by": "fastclip eval", "bad_samples": features.bad.to_dict()},
        )  # fmt: skip

    def _objection_to(self, manifest: Manifest) -> str | None:
        sides = ("img", "text") if self.is_pairs else ("img",)
        own = manifest.settings.get("written_by") == "fastclip eval"
        if not own or manifest.model is None or manifest.source is None or manifest.sides != sides:
            return "these embeddings were not written by an evaluation"
        if (objection := manifest.model.objection_to(self.ready)) is not None:
            return objection
        if manifest.model.precision != self.ready.precision.name:
            return f"the vectors were computed in another precision, {manifest.model.precision}"
        if manifest.source.contents != self.contents:
            return f"the vectors are of other data, also called {manifest.source.name!r}"
        return objection_to(manifest.source.stamp, self.stamp)


def _vectors(side: Side, numbers: Tensor) -> Tensor:
    """Return the vectors of some rows, copied a few at a time to save memory."""
    found = np.empty((len(numbers), side.dim), np.float32)
    for start in range(0, len(numbers), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found[part] = side.rows(numbers[part].numpy())
    return torch.from_numpy(found)


def _sides(features: Features) -> tuple[dict[str, Tensor], Tensor]:
    """Return the vectors of every row, and the label or the image number of every row."""
    if isinstance(features, LabelledFeatures):
        return {"img": features.image_features}, features.labels
    numbers = features.text_to_image
    return {"img": features.image_features[numbers], "text": features.text_features}, numbers
