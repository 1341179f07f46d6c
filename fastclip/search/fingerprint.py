"""A digest that identifies vectors, so that an index of other vectors is not used."""

import hashlib
import json
import os

from fastclip.embeddings.layout import scales_of, vectors_of
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side


class StaleIndex(ValueError):
    """An index belongs to other vectors than the current ones; the message says what to do."""


def fingerprint_of(embeddings: Embeddings, side: Side) -> str:
    """Return a SHA-256 that identifies vectors without reading them.

    If the embeddings have a manifest, it hashes the digests of all files of the side. Otherwise it
    hashes the names, sizes and times of the files, so that a copy counts as other vectors unless it
    keeps the times.
    """
    digest = hashlib.sha256(f"{len(side)} {side.dim} {side.dtype}".encode())
    kinds = (vectors_of(side.name), scales_of(side.name))
    for part in embeddings.parts:
        for record in part.manifest.files:
            digests = [record.sha256.get(kind) for kind in kinds]
            digest.update(json.dumps([record.rows, digests]).encode())
    if not embeddings.parts:
        for stored in side.files:
            for array in stored:
                path = getattr(array, "filename", None)  # an empty array is not mapped
                if path is not None:
                    found = os.stat(path)
                    mark = (os.path.basename(path), found.st_size, found.st_mtime_ns)
                    digest.update(repr(mark).encode())
    return digest.hexdigest()
