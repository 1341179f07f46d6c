"""Folders of random unit vectors of images and texts, with metadata."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fastclip.embeddings.manifest import Manifest, ModelRecord
from fastclip.embeddings.writer import EmbeddingsWriter

DIM = 8
MODEL = ModelRecord("a model", "w", "p", "t", "c", {"size": 32}, "fp32", 100.0)


def unit_vectors(num: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def row_of(number: int) -> dict:
    return {"image_path": f"a/{number}.jpg", "caption": f"number {number}", "key": f"a/{number}"}


def write_embeddings(
    folder: Path, num: int = 20, dim: int = DIM, seed: int = 0, *, sides=("img", "text"),
    store="f32", rows_per_file=1000, metadata="jsonl", weights="w", row_of=row_of,
) -> Path:  # fmt: skip
    """Vectors of images are those of `seed`, of texts of `seed + 1`."""
    model = replace(MODEL, weights=weights)
    head = Manifest(model, None, "/images", tuple(sides), store, metadata, rows_per_file)
    vectors = {side: unit_vectors(num, dim, seed + (side == "text")) for side in sides}
    with EmbeddingsWriter(folder, head) as writer:
        for start in range(0, num, rows_per_file):
            part = slice(start, start + rows_per_file)
            own = range(num)[part]
            writer.add({side: rows[part] for side, rows in vectors.items()}, list(map(row_of, own)))
            writer.end_file()
        writer.finish()
    return folder
