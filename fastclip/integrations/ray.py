"""Embedding on all machines of a Ray cluster.

A job of `embed` splits into shards that are independent of each other: shard i of n reads its range
of the source and writes its own folder. Here a data set of Ray Data holds the numbers 0 to n - 1,
one per block, and `map_batches` gives them to actors that each hold the model. Images and vectors
go from the disk to the actor and back to the disk; only a number passes through Ray on the way in,
and counts on the way out, so that Ray's object store stays empty.

Ray restarts an actor that was killed, and gives its shard to whichever actor is free: complete
files stay, and the shard continues after them. A process that has ended holds no lock. If Ray
wrongly takes an actor for dead while it still writes, the second actor is refused.
"""

import inspect
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastclip.data.quoting import first_line
from fastclip.embeddings.embed_source import embed as embed_shard
from fastclip.embeddings.layout import MANIFEST, SHARD
from fastclip.embeddings.reader import open_embeddings
from fastclip.installation import install_command
from fastclip.models.inference import InferenceModel, open_model
from fastclip.printable import printable

OWN = ("shard", "resume", "progress", "tell")  # arguments of `embed` that are not the caller's
ATTEMPTS = (
    "ray_attempts"  # a folder in `out` while a job runs: a byte for each beginning of a shard
)
Batch = dict[str, Any]


class Embedded(NamedTuple):
    """What a job has embedded.

    Attributes:
        rows: vectors of each side, over all shards.
        num_seen: inputs that were read.
        num_bad: inputs among these that were skipped; `skipped.jsonl` of each shard says why.
    """

    rows: int
    num_seen: int
    num_bad: int


class ShardsFailed(RuntimeError):
    """Some shards are not complete; the others are, and what the failed ones have written stays.

    Attributes:
        reasons: maps the number of each shard that failed to the reason, in order.
    """

    def __init__(self, reasons: dict[int, str], num_shards: int) -> None:
        self.reasons, self._num_shards = reasons, num_shards
        shard, reason = next(iter(reasons.items()))
        super().__init__(
            f"{len(reasons)} of {num_shards} shards are not complete; the same call continues "
            f"them. Shard {shard}: {reason}"
        )

    def __reduce__(self) -> tuple:
        return type(self), (self.reasons, self._num_shards)


def embed(
    source: str | os.PathLike,
    model: str | os.PathLike | Callable[[], InferenceModel],
    out: str | os.PathLike,
    *,
    num_shards: int,
    concurrency: int = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
    retries: int = 3,
    pretrained: str | os.PathLike | None = None,
    device: str | None = None,
    precision: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **settings: Any,
) -> Embedded:
    """Embed a source into a folder with the workers of a Ray cluster.

    Call `ray.init` first to choose a cluster; otherwise Ray starts one on this machine. All
    machines must see the source, the model and `out` by the same names; relative paths are relative
    to the caller's working directory, on all machines. If a call ended half-way, make the same call
    again: complete shards are not done again.

    Args:
        source: see `fastclip.embeddings.embed`; not standard input.
        model: the argument of `open_model`, along with `pretrained`, `device` and `precision`; or a
            function that opens a model, called once by each worker.
        out: a folder, which `open_embeddings` reads as one.
        num_shards: parts of the job. With several per worker, workers end at about the same time.
        concurrency: workers that hold the model at the same time, at least 1.
        num_cpus, num_gpus: CPUs and GPUs that a worker takes, as Ray counts them; it decodes with
            as many threads as CPUs, unless `workers` says otherwise.
        retries: how often a shard is begun again after its worker was killed, at least 0. The limit
            ends a job whose workers are killed every time, by too little memory for example.
        progress: called with how many shards are done, and how many there are.
        settings: other arguments of `fastclip.embeddings.embed`, such as `store`, `batch_size` and
            `max_bad_rate`, which applies to each shard by itself.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ray.exceptions.RayError: the cluster fails.
        ShardsFailed: shards ended with an error, or killed their workers again and again.
        TypeError: `settings` has a name that is not an argument of `embed`.
        ValueError: an argument is out of its range, or `out` has embeddings in another
            number of shards.

    Example: two GPUs of each of four machines.
        >>> ray.init("auto")
        >>> embed("/data/laion/", "ViT-B-32", "/data/out", pretrained="laion2b_s34b_b79k",
        ...       num_shards=256, concurrency=8, num_gpus=1, num_cpus=12, store="f16").rows
        11938204
        >>> open_embeddings("/data/out").images.rows([0]).shape
        (1, 512)
    """
    for name, value, least in (
        ("num_shards", num_shards, 1), ("concurrency", concurrency, 1), ("retries", retries, 0)
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if not isinstance(source, str | os.PathLike) or os.fspath(source) == "-":
        raise ValueError("the source must be a path that all machines can read, not standard input")
    if callable(model) and (pretrained, device, precision) != (None, None, None):
        raise ValueError("pretrained, device and precision need a model that is given by name")
    _require_settings(settings)
    _require_own(Path(out), num_shards)
    opened = model if callable(model) else partial(
        open_model, model, pretrained, device=device, precision=precision
    )  # fmt: skip
    settings = {"workers": max(1, int(num_cpus))} | settings
    ray = _ray()
    # Not a range: Ray would make it in a task, for which workers may have left no CPU.
    numbers = [{"shard": shard} for shard in range(num_shards)]
    shards = ray.data.from_items(numbers, override_num_blocks=num_shards).map_batches(
        _Worker,
        fn_constructor_args=(opened, source, out, num_shards, retries, settings, os.getcwd()),
        batch_size=1,
        # A shard must not wait for a busy worker while other workers have nothing to do.
        compute=ray.data.ActorPoolStrategy(size=concurrency, max_tasks_in_flight_per_actor=1),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    done: dict[int, Batch] = {}
    _forget_attempts(out)
    try:
        for row in shards.iter_rows():
            done[int(row["shard"])] = row
            progress(len(done), num_shards)
    finally:
        _forget_attempts(out)
    reasons = {shard: str(row["error"]) for shard, row in sorted(done.items()) if row["error"]}
    if reasons:
        raise ShardsFailed(reasons, num_shards)
    found = Embedded(*(sum(int(row[name]) for row in done.values()) for name in Embedded._fields))
    rows = len(open_embeddings(out))
    if rows != found.rows:
        raise RuntimeError(f"workers reported {found.rows:,} rows, but {out} has {rows:,}")
    return found


class _Worker:
    """An actor: opens the model with its first shard, and keeps it."""

    def __init__(
        self, opened: Callable[[], InferenceModel], source: str | os.PathLike,
        out: str | os.PathLike, num_shards: int, retries: int, settings: dict[str, Any],
        directory: str,
    ) -> None:  # fmt: skip
        self._open, self._ready = opened, None
        self._source, self._out, self._num_shards = source, out, num_shards
        self._retries = retries
        self._settings, self._directory = settings, directory

    def __call__(self, batch: Batch) -> Batch:
        (shard,) = (int(number) for number in batch["shard"])
        counts, error = (0, 0, 0), ""
        try:
            counts = self._embed(shard)
        except Exception as reason:  # its reason is reported, and other shards go on
            error = f"{type(reason).__name__}: {first_line(reason)}"
        values = {"shard": shard, "error": error} | dict(zip(Embedded._fields, counts, strict=True))
        return {name: np.array([value]) for name, value in values.items()}

    def _embed(self, shard: int) -> tuple[int, int, int]:
        os.chdir(self._directory)
        _count_attempt(self._out, shard, self._retries)
        if self._ready is None:
            self._ready = self._open()
        state = embed_shard(
            self._ready, self._source, self._out, shard=(shard, self._num_shards), resume=True,
            tell=lambda text: print(f"shard {shard}: {printable(text)}"), **self._settings,
        )  # fmt: skip
        return state.rows, state.account.num_seen, state.account.num_bad


def _count_attempt(out: str | os.PathLike, shard: int, retries: int) -> None:
    """Count an attempt on the disk, because a killed worker cannot report it."""
    path = Path(out) / ATTEMPTS / str(shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        before = file.tell()
        file.write(b".")
    if before > retries:
        raise RuntimeError(f"its workers were killed, {before} in all")


def _forget_attempts(out: str | os.PathLike) -> None:
    shutil.rmtree(Path(out) / ATTEMPTS, ignore_errors=True)


def _require_settings(settings: dict[str, Any]) -> None:
    known = inspect.signature(embed_shard).parameters
    for name in settings:
        if name in OWN or name not in known or name in ("ready", "source", "out"):
            raise TypeError(f"embed() got an unexpected keyword argument {name!r}")


def _require_own(out: Path, num_shards: int) -> None:
    """Raise ValueError if there are embeddings in another number of shards."""
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    counts = {int(match[2]) for name in names if (match := SHARD.fullmatch(name))}
    if MANIFEST in names:
        counts.add(1)
    if others := counts - {num_shards}:
        raise ValueError(
            f"{out} has embeddings in {min(others):,} shards, not {num_shards:,}: choose that "
            "number, or another folder"
        )


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Embedding on a cluster needs Ray: {install_command('ray')}"
        ) from error
    return ray
