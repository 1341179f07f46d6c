"""The demo from its first line to its last: training, evaluation, a figure, memory."""

import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from fastclip.data.digits.images import load_digits, split_by_image
from fastclip.demo import report
from fastclip.demo.evaluation import DigitEvaluation, evaluate_digits
from fastclip.demo.figure import Retrieved, save_figure
from fastclip.demo.loss_memory import measure_peak_bytes
from fastclip.demo.settings import DemoSettings
from fastclip.demo.training import Training
from fastclip.installation import install_command
from fastclip.models.digits import EMBED_DIM
from fastclip.ops.dispatch import resolve_backend

EXTRAS = ("sklearn", "matplotlib", "tqdm")
LARGE_BATCH = 8192  # measured beside the run's own batch: here the dense loss begins to hurt
NUM_EXAMPLES = 6
FIGURE, CHECKPOINT = "demo.png", "checkpoint.pt"


def demonstrate(settings: DemoSettings, output: Path, say: Callable[[str], None]) -> None:
    """Train on digits, evaluate on unseen ones, and write demo.png and checkpoint.pt.

    Args:
        output: directory of the two files, made if it is not there; older ones are replaced.
        say: called with what there is to read, before training and at the end.

    Raises:
        ModuleNotFoundError: a package that only the demo needs is not installed.
        RuntimeError: the backend of the loss cannot run here.
        OSError: the directory cannot be written to.
        FloatingPointError: a loss or a gradient is not finite.
    """
    _require_extras()
    backend = resolve_backend(settings.backend, torch.empty(0))
    output.mkdir(parents=True, exist_ok=True)
    # The rest of the run is gone at the end: a later demo may write to the same place.
    with tempfile.TemporaryDirectory(prefix="run-", dir=output) as directory:
        training = Training(settings, Path(directory))
        say(report.opening(settings, training.model, backend))
        os.replace(training.train(), output / CHECKPOINT)
    _, test_digits = split_by_image(load_digits())
    evaluation = evaluate_digits(training.model, training.tokenizer, test_digits)
    save_figure(
        output / FIGURE, training.losses, settings.batch_size, examples(evaluation),
        report.headline(evaluation),
    )  # fmt: skip
    sizes = sorted({settings.batch_size, LARGE_BATCH})
    memory = [_loss_memory(size, settings.backend) for size in sizes]
    say(report.closing(training, evaluation, memory))
    say(f"\nwrote {output / FIGURE} and {output / CHECKPOINT}")


def examples(evaluation: DigitEvaluation) -> list[Retrieved]:
    """The first test images with the captions they retrieved, as they come."""
    pairs = evaluation.pairs
    return [
        Retrieved(pairs.images[i], pairs.captions[evaluation.retrieved[i]], pairs.captions[i])
        for i in range(min(NUM_EXAMPLES, len(pairs.captions)))
    ]


def _require_extras() -> None:
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"needs {', '.join(missing)}: {install_command('demo')}")


def _loss_memory(batch_size: int, backend: str) -> report.LossMemory:
    fused, dense = (
        measure_peak_bytes(loss, batch_size, EMBED_DIM, backend) for loss in ("fused", "dense")
    )
    return report.LossMemory(batch_size, fused, dense)
