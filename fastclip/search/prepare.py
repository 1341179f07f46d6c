"""Compute and write what makes queries of a folder of embeddings quick; see `prepared.py`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from fastclip.embeddings.array_file import open_array, write_array, write_blocks, write_bytes
from fastclip.embeddings.lock import locked
from fastclip.embeddings.moments import Moments
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.models.inference import InferenceModel
from fastclip.search.calibration import CaptionNull
from fastclip.search.corpus import blocks_of, rows_of_block
from fastclip.search.encoding import told_apart, vectors_of_texts
from fastclip.search.fingerprint import StaleIndex, fingerprint_of
from fastclip.search.prepared import (
    FORMAT,
    VERSION,
    Prepared,
    PreparedFiles,
    PreparedRecord,
    encoder_of,
)

FEWEST_TOLD_APART = 0.9  # the fraction of captions whose tokens must differ


class UnknownCaptions(ValueError):
    """The tokenizer of a model does not know the words of the captions."""


def prepare(
    embeddings: Embeddings,
    side: Side,
    ready: InferenceModel | None = None,
    captions: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Compute and write what searches of one side of embeddings need, replacing earlier results.

    If the computation fails, the earlier results remain.

    Args:
        embeddings: the folder of embeddings.
        side: the vectors of its images, or of its texts.
        ready: the model that made the vectors; needed only with captions.
        captions: texts such as people search for, to calibrate scores with; see `CaptionNull`.
        tell: called with a message before each step.

    Raises:
        CannotCalibrate: there are too few captions for any score to stand out.
        UnknownCaptions: the model's tokenizer does not distinguish the captions.
        CannotWrite: a file or the folder cannot be written.
        StaleIndex: the vectors have changed meanwhile.
        ValueError: another process is writing to the folder.

    Example:
        >>> found = open_embeddings("embeddings")
        >>> prepare(found, found.images, open_model("logs/my-run"), read_captions())
    """
    if captions:
        CaptionNull.require_enough(len(captions))
        _require_known(ready, captions)
    files = PreparedFiles.of(embeddings, side)
    with locked(files.folder):
        fingerprint = fingerprint_of(embeddings, side)
        # Earlier results stay until everything is computed.
        null, of_captions = None, ("", "", "", 0)
        if captions:
            tell(f"searching for {len(captions):,} captions, to calibrate scores")
            null = CaptionNull.of(vectors_of_texts(ready, captions), side)
            of_captions = (*encoder_of(ready), len(captions))
        vectors = _converted(files, side, tell)
        moments = _summed_up(files, side, tell)
        if fingerprint_of(embeddings, side) != fingerprint:
            raise StaleIndex(
                f"the vectors in {embeddings.folder} have changed while they were read; run "
                "`fastclip index` again"
            )
        files.record.unlink(missing_ok=True)
        if null is not None:
            write_array(files.captions, null.best)
        record = PreparedRecord(fingerprint, *of_captions)
        values = {"format": FORMAT, "version": VERSION} | asdict(record)
        write_bytes(files.record, [json.dumps(values, indent=1).encode() + b"\n"])
    return Prepared(record, vectors, moments, null)


def _converted(files: PreparedFiles, side: Side, tell: Callable[[str], None]) -> np.ndarray | None:
    if side.dtype == np.float32:
        return None
    tell(f"converting {len(side):,} vectors from {side.dtype} to float32")
    blocks = (block for _, block in blocks_of(side.files, rows_of_block(side.files, None)))
    write_blocks(files.vectors, (len(side), side.dim), np.dtype(np.float32), blocks)
    return open_array(files.vectors, 2, (np.float32,))


def _summed_up(files: PreparedFiles, side: Side, tell: Callable[[str], None]) -> Moments | None:
    if side.known_moments is not None:
        return None
    tell(f"summing up {len(side):,} vectors for their mean and covariance")
    write_array(files.moments, side.moments.sums)
    return side.moments


def _require_known(ready: InferenceModel | None, captions: Sequence[str]) -> None:
    if ready is None:
        raise ValueError("captions need the model that encodes them")
    num = len(told_apart(ready, captions))
    if num < FEWEST_TOLD_APART * len(captions):
        raise UnknownCaptions(
            f"the tokenizer of {ready.name} distinguishes only {num:,} of {len(captions):,} "
            "captions, because it does not know their words"
        )
