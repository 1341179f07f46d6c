"""Embedding on all machines of a Ray cluster.

A job of `embed` falls into shards that know nothing of each other: shard i of n reads its range of
the source and writes a folder of its own. Here the data set of Ray Data holds the numbers 0 to
n - 1, a number to a block, and `map_batches` gives them to actors that each hold the model. Images
and vectors go from the disk to the actor and back to the disk; what passes through Ray is a number
on the way in, and counts on the way out, so that its object store stays empty.

An actor that is killed is started again by Ray, and its shard is done again, by whichever actor is
free: files that were complete stay, and the shard goes on behind them. The lock of a process that
has ended is free. Should Ray take an actor for dead that still writes, the second one is refused.
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
    """Attributes:
    rows: vectors of each side, over all shards.
    num_seen: inputs that were read.
    num_bad: of those, inputs that were skipped; `skipped.jsonl` of each shard says why.
    """

    rows: int
    num_seen: int
    num_bad: int


class ShardsFailed(RuntimeError):
    """Some shards are not complete; the others are, and what these have stays.

    Attributes:
        reasons: of each shard that failed, by its number, in order.
    """

    def __init__(self, reasons: dict[int, str], num_shards: int) -> None:
        self.reasons, self._num_shards = reasons, num_shards
        shard, reason = next(iter(reasons.items()))
        super().__init__(
            f"{len(reasons)} of {num_shards} shards are not complete, and the same call goes on "
            f"with them; shard {shard}: {reason}"
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
    """Embed a source into a folder, by the workers of a Ray cluster.

    Call `ray.init` first to choose a cluster; otherwise Ray starts one on this machine. All
    machines must see the source, the model and `out` by the same names; relative ones are relative
    to the caller's working directory, on all machines. A call that ended half-way is made again as
    it was: complete shards are not done again.

    Args:
        source: see `fastclip.embeddings.embed`; not standard input.
        model: what `open_model` takes, with `pretrained`, `device` and `precision`; or a function
            that opens a model, called once by each worker.
        out: a folder, which `open_embeddings` reads as one.
        num_shards: parts of the job. With several for each worker, all end at about the same time.
        concurrency: workers that hold the model at the same time, at least 1.
        num_cpus, num_gpus: what a worker takes of its machine, as Ray counts; it decodes with as
            many threads as CPUs, unless `workers` says otherwise.
        retries: how often a shard is begun again after its worker was killed, at least 0: what
            kills every worker, as too little memory does, ends.
        progress: called with how many shards are done, and how many there are.
        settings: other arguments of `fastclip.embeddings.embed`, such as `store`, `batch_size` and
            `max_bad_rate`, of which each shard is judged by itself.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ray.exceptions.RayError: the cluster fails.
        ShardsFailed: shards ended with an error, or killed their workers again and again.
        TypeError: `settings` has what is no argument of `embed`.
        ValueError: an argument is out of its range, or `out` has embeddings of another division.

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
        raise ValueError("the source must be a name that all machines know, not standard input")
    if callable(model) and (pretrained, device, precision) != (None, None, None):
        raise ValueError("pretrained, device and precision are for a model that is named")
    _require_settings(settings)
    _require_own(Path(out), num_shards)
    opened = model if callable(model) else partial(
        open_model, model, pretrained, device=device, precision=precision
    )  # fmt: skip
    settings = {"workers": max(1, int(num_cpus))} | settings
    ray = _ray()
    # Items, as a range would be made by a task, for which workers may have left no CPU.
    numbers = [{"shard": shard} for shard in range(num_shards)]
    shards = ray.data.from_items(numbers, override_num_blocks=num_shards).map_batches(
        _Worker,
        fn_constructor_args=(opened, source, out, num_shards, retries, settings, os.getcwd()),
        batch_size=1,
        # A shard that waited for a busy worker would be done last, while others have nothing to do.
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
        raise RuntimeError(f"workers told of {found.rows:,} rows, and {out} has {rows:,}")
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
        except Exception as reason:  # of all shards the reasons are told, and the others go on
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
    """On the disk, as a worker that is killed can tell nobody."""
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
    """Raise ValueError if there are embeddings that were divided otherwise."""
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    counts = {int(match[2]) for name in names if (match := SHARD.fullmatch(name))}
    if MANIFEST in names:
        counts.add(1)
    if others := counts - {num_shards}:
        raise ValueError(
            f"{out} has embeddings in {min(others):,} parts, not {num_shards:,}: choose that "
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
