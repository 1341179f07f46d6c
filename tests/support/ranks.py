"""Processes for tests of several ranks: started once, they run one function after the other.

A pool of 4 has groups of its first 1, 2, 3 and 4 ranks. `pool.run(W, function, *args, **options)`
calls `function(group, *args, **options)` in the first W processes and returns what each returned,
in their order. Functions are those of a module; warnings are errors in the processes too.
"""

import pickle
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.support.runs import server

SECONDS_TO_ANSWER = 120
SECONDS_TO_END = 30


class RankPool:
    def __init__(self, size: int, directory: Path) -> None:
        context = server()
        self._connections, self._processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            args = rank, size, f"file://{directory / 'store'}", theirs
            process = context.Process(target=_serve, args=args, daemon=True)
            process.start()
            self._connections.append(ours)
            self._processes.append(process)

    def run(self, num_ranks: int, function: Callable, *args: Any, **options: Any) -> list[Any]:
        # As bytes: multiprocessing's own pickles would put tensors into shared memory.
        task = pickle.dumps((num_ranks, function, args, options))
        connections = self._connections[:num_ranks]
        for connection in connections:
            connection.send_bytes(task)
        answers = [self._answer(connection) for connection in connections]
        failures = [text for succeeded, text in answers if not succeeded]
        assert not failures, "\n".join(failures)
        return [result for _, result in answers]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(SECONDS_TO_END)
        codes = [process.exitcode for process in self._processes]
        for process in self._processes:
            process.kill()  # of no effect on one that ended
        assert codes == [0] * len(codes), f"exit codes of the ranks: {codes}"

    @staticmethod
    def _answer(connection: Connection) -> tuple[bool, Any]:
        if not connection.poll(SECONDS_TO_ANSWER):
            return False, "a rank did not answer"
        return pickle.loads(connection.recv_bytes())


def _serve(rank: int, size: int, store: str, connection: Connection) -> None:
    torch.set_num_threads(1)
    # Uninitialised memory is nan here too, as in tests/conftest.py.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = True
    timeout = timedelta(seconds=SECONDS_TO_ANSWER / 4)
    dist.init_process_group("gloo", store, timeout, world_size=size, rank=rank)
    groups = [dist.new_group(list(range(n + 1))) for n in range(size)]
    while True:
        try:
            num_ranks, function, args, options = pickle.loads(connection.recv_bytes())
        except EOFError:
            break
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                answer = True, function(groups[num_ranks - 1], *args, **options)
        except Exception:
            answer = False, f"rank {rank}: {traceback.format_exc()}"
        connection.send_bytes(pickle.dumps(answer))
    dist.destroy_process_group()
