"""Compare CachedMultipleNegativesRankingLoss of sentence-transformers and of fastclip.

    python -m fastclip.benchmarks.cached_ranking --n 4096 --d 384 --threads 1

One call is `calculate_loss` with its backward, on embeddings in mini-batches, as cached losses have
them after the first encoding. Both are timed in turns with rotating order, by the clock and in CPU
time, which other work on the machine changes less.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from torch import Tensor

from fastclip.benchmarks.results import write_measurement
from fastclip.benchmarks.timing import median_ratio, rotated, wall_seconds
from fastclip.benchmarks.torchvision import make_importable

Step = Callable[[], tuple[Tensor, Tensor]]  # the loss (), and all gradients, (columns, N, D)


def steps(N: int, D: int, num_columns: int, mini_batch_size: int) -> dict[str, Step]:
    """Return a call of each class, on the same embeddings.

    Raises:
        ModuleNotFoundError: sentence-transformers is not installed.
    """
    make_importable()
    from sentence_transformers.sentence_transformer import losses as theirs

    from fastclip.integrations import sentence_transformers as ours

    torch.manual_seed(0)
    every = torch.randn(num_columns, N, D)
    # The classes look at the first module of a model and at nothing else.
    model = [SimpleNamespace()]

    def step_of(kind: type) -> Step:
        loss = kind(model, mini_batch_size=mini_batch_size)

        def step() -> tuple[Tensor, Tensor]:
            columns = [[part.clone().requires_grad_() for part in column.split(mini_batch_size)]
                       for column in every]  # fmt: skip
            value = loss.calculate_loss(columns, with_backward=True)
            return value, torch.stack([torch.cat([x.grad for x in column]) for column in columns])

        return step

    name = "CachedMultipleNegativesRankingLoss"
    return {
        "fastclip": step_of(getattr(ours, name)),
        "sentence-transformers": step_of(getattr(theirs, name)),
    }


def measure(N: int, D: int, num_columns: int, mini_batch_size: int, rounds: int) -> dict[str, dict]:
    """Measure seconds and CPU seconds of each round, and relative differences of the results."""
    calls = steps(N, D, num_columns, mini_batch_size)
    (value, gradient), (their_value, theirs) = (call() for call in calls.values())
    results = {name: {"seconds": [], "cpu_seconds": []} for name in calls}
    results["fastclip"] |= {
        "difference_of_loss": abs(value.item() / their_value.item() - 1),
        "difference_of_gradients": ((gradient - theirs).norm() / theirs.norm()).item(),
    }
    for number in range(rounds):
        for name in rotated(list(calls), number):
            before = time.process_time()
            results[name]["seconds"].append(wall_seconds(calls[name]))
            results[name]["cpu_seconds"].append(time.process_time() - before)
    return results


def table(results: dict[str, dict]) -> str:
    ours = results["fastclip"]
    lines = ["| | median s | fastclip over it | CPU: median s | over it |", "|---|---|---|---|---|"]
    for name, row in results.items():
        cells = []
        for clock in ("seconds", "cpu_seconds"):
            cells += [median(row[clock]), median_ratio(ours[clock], row[clock])]
        lines.append(f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    lines.append(
        f"difference: loss {ours['difference_of_loss']:.0e}, "
        f"gradients {ours['difference_of_gradients']:.0e}"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fastclip.benchmarks.cached_ranking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--n", type=int, default=4096, help="queries in a batch")
    parser.add_argument("--d", type=int, default=384, help="dimension of an embedding")
    parser.add_argument("--columns", type=int, default=2, help="queries, documents, negatives ...")
    parser.add_argument("--mini-batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, help="torch.set_num_threads; default: torch's own")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write DIR/<device>/<date>-...")
    args = parser.parse_args(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    results = measure(args.n, args.d, args.columns, args.mini_batch_size, args.rounds)
    print(table(results))
    if args.output is not None:
        name = f"cached-ranking-{args.n}-{args.d}"
        print(write_measurement(args.output, name, __spec__.name, argv, results), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
