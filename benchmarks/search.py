"""Compare exact search with its lower bounds: reading the vectors, and one matrix product.

    python -m fastclip.benchmarks.search --rows 1000000 --dim 512 --rounds 5

    reading      reads the file, which is in the page cache, into a buffer of 16 MiB
    one          one query; its time over the time of reading
    matmul       the product of Q queries with all vectors, in blocks, and nothing else
    many         Q queries in one batch; their time over the time of that product
    memory       the peak memory of a search besides the mapped file, in blocks of 16 MiB

Vectors are random unit vectors in a mapped file. Everything is timed in turns, and ratios are
formed within a round before the median is taken. tests/search/test_exact_search.py checks results.
"""

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from fastclip.embeddings.array_file import open_array, write_blocks
from fastclip.search.corpus import BLOCK_BYTES
from fastclip.search.exact import search

TOP = 10


@dataclass(frozen=True)
class Measured:
    """Median seconds, median ratios within a round, and memory in bytes."""

    reading: float
    one: float
    matmul: float
    many: float
    one_by_reading: float
    many_by_matmul: float
    memory: int


def write_vectors(path: Path, rows: int, dim: int) -> None:
    """Write random unit vectors as (rows, dim) float32."""
    generator = np.random.default_rng(0)

    def blocks():
        for start in range(0, rows, 10_000):
            block = generator.standard_normal((min(10_000, rows - start), dim), np.float32)
            yield block / np.linalg.norm(block, axis=1, keepdims=True)

    write_blocks(path, (rows, dim), np.dtype(np.float32), blocks())


def measure(path: Path, num_queries: int, rounds: int) -> Measured:
    """Time searches of a file of vectors in turns with their lower bounds."""
    vectors = open_array(path, 2, (np.float32,))
    dim = vectors.shape[1]
    queries = np.random.default_rng(1).standard_normal((num_queries, dim), np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    calls = {
        "reading": lambda: _read(path),
        "one": lambda: search(queries[:1], vectors, TOP),
        "matmul": lambda: _multiply(queries, vectors),
        "many": lambda: search(queries, vectors, TOP),
    }
    for call in calls.values():
        call()  # loads pages and libraries
    turns = [{name: _seconds(call) for name, call in calls.items()} for _ in range(rounds)]
    return Measured(
        **{name: median(turn[name] for turn in turns) for name in calls},
        one_by_reading=median(turn["one"] / turn["reading"] for turn in turns),
        many_by_matmul=median(turn["many"] / turn["matmul"] for turn in turns),
        memory=_allocated(calls["many"]),
    )


def _read(path: Path) -> None:
    buffer = bytearray(BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _multiply(queries: np.ndarray, vectors: np.ndarray) -> None:
    size = BLOCK_BYTES // vectors.strides[0]
    for start in range(0, len(vectors), size):
        queries @ vectors[start : start + size].T


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _allocated(call: Callable[[], object]) -> int:
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vectors.npy")
        write_vectors(path, args.rows, args.dim)
        found = measure(path, args.queries, args.rounds)
    print(f"{args.rows:,} vectors of {args.dim} float32, the best {TOP} of each query")
    print(f"reading             {found.reading:.3f} s")
    print(f"one query           {found.one:.3f} s, {found.one_by_reading:.2f} of reading")
    print(f"matmul              {found.matmul:.3f} s")
    print(
        f"{args.queries} queries         {found.many:.3f} s, {found.many_by_matmul:.2f} of matmul"
    )
    print(f"memory              {found.memory / BLOCK_BYTES:.2f} blocks of 16 MiB")


if __name__ == "__main__":
    main()
