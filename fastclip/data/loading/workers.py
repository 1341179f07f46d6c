"""The processes that read and decode for a loader: one DataLoader with one worker per reader."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader

from fastclip.data.loading.bad_samples import DataError
from fastclip.data.loading.image_batch import unpacked
from fastclip.data.loading.pieces import Piece, PieceDataset

SECONDS_TO_DIE = 1.0  # for a killed worker; inside a system call it may never die


class Workers:
    """Hands over the pieces of each reader; a worker starts when its first piece is asked for.

    Args:
        num: how many readers there are.
        prefetch: pieces that a worker prepares in advance; None reads in this process.
        start_method: how a worker is started, see `multiprocessing`.
    """

    def __init__(
        self,
        num: int,
        prefetch: int | None,
        start_method: str | None,
        pin_memory: bool,
    ) -> None:
        self._num = num
        self._settings: dict[str, Any] = {"pin_memory": pin_memory}
        if prefetch is not None:
            self._settings |= {
                "num_workers": 1, "prefetch_factor": prefetch,
                "multiprocessing_context": start_method,
            }  # fmt: skip
        self._streams: list[Iterator[Piece] | None] = [None] * num
        self._processes: set[BaseProcess] = set()

    def take(self, number: int, dataset_of: Callable[[int], PieceDataset]) -> Piece:
        """Wait for the next piece of a reader.

        Args:
            dataset_of: makes the dataset of a reader; it is called if a worker must be started.
                (Kept here, it would tie the loader into a cycle that outlives its last user.)

        Raises:
            DataError: its worker has died.
        """
        if self._streams[number] is None:
            self._start(number, dataset_of(number))
        try:
            piece = next(self._streams[number])
        except RuntimeError as error:
            if "exited unexpectedly" in str(error) or "is killed by signal" in str(error):
                raise DataError(
                    f"data worker {number} of {self._num} has died, perhaps because memory ran "
                    f"out: {error}"
                ) from error
            raise
        return replace(piece, images=unpacked(piece.images))

    def close(self) -> None:
        """Stop the workers; the next `take` starts them again.

        A worker that does not stop, for example because its disk does not answer, is killed: a
        process that waited for it to end would wait forever.
        """
        for stream in self._streams:
            # Otherwise they would only stop with the last reference, which an error may hold.
            if hasattr(stream, "_shutdown_workers"):
                stream._shutdown_workers()
        self._streams = [None] * self._num
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join(SECONDS_TO_DIE)
        self._processes = set()

    def _start(self, number: int, dataset: PieceDataset) -> None:
        loader = DataLoader(
            dataset,
            batch_size=None,
            collate_fn=_as_it_is,
            # Without its own generator, starting would draw from the trainer's.
            generator=torch.Generator(),
            worker_init_fn=_leave_signals_to_the_run,
            **self._settings,
        )
        others = active_children()
        try:
            self._streams[number] = iter(loader)
        finally:
            self._processes |= set(active_children()) - set(others)


def _leave_signals_to_the_run(worker: int) -> None:
    """Make a worker ignore signals to the whole run: the main process saves, then ends it."""
    if hasattr(os, "setsid"):
        os.setsid()
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _as_it_is(piece: Piece) -> Piece:
    return piece
