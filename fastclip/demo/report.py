"""The texts that the demo prints: what it is about to do, and its results."""

from typing import NamedTuple

from fastclip.data.digits.images import load_digits, split_by_image
from fastclip.demo.evaluation import DigitEvaluation
from fastclip.demo.settings import DemoSettings
from fastclip.demo.training import Training
from fastclip.evaluate.ranking import recall_at
from fastclip.models.clip import CLIP

MIB = 2**20


class LossMemory(NamedTuple):
    """Peak memory of one forward and backward of the loss."""

    batch_size: int
    fused_bytes: int
    dense_bytes: int


def opening(settings: DemoSettings, model: CLIP, backend: str) -> str:
    """Return what is about to be trained, in lines.

    Args:
        backend: the backend that computes the loss; `settings` may have "auto".
    """
    train, test = split_by_image(load_digits())
    parameters = sum(p.numel() for p in model.parameters())
    return "\n".join(
        [
            f"data      {len(train.labels):,} digits to train on, {len(test.labels)} to test on; "
            "images of up to four, with captions",
            f"model     a vision and a text transformer, {parameters:,} parameters",
            f"loss      fused, {settings.batch_size:,} pairs, backend {backend}",
            f"training  {settings.steps} steps on {settings.threads} CPU threads, "
            f"seed {settings.seed}",
        ]
    )


def headline(evaluation: DigitEvaluation) -> str:
    """Return one line of results, the title of the figure."""
    return (
        f"{evaluation.digit_accuracy:.1%} of unseen digits named zero-shot;  R@1 "
        f"{recall_at(1, evaluation.retrieval.image_to_text):.1%} among "
        f"{len(evaluation.pairs.captions):,} unseen captions"
    )


def closing(training: Training, evaluation: DigitEvaluation, memory: list[LossMemory]) -> str:
    """Return the results, the time and the memory, in lines."""
    num_pairs = len(evaluation.pairs.captions)
    losses, seconds = training.losses, training.seconds
    lines = [
        f"trained in {seconds:.0f} s, {seconds / len(losses):.2f} s per step, "
        f"loss {losses[0]:.2f} -> {losses[-1]:.2f}",
        "",
        f"retrieval among {num_pairs:,} unseen pairs        R@1      R@5",
    ]
    for direction, ranks in evaluation.retrieval._asdict().items():
        name = direction.replace("_", " ")
        lines.append(f"  {name:<34}{recall_at(1, ranks):9.1%}{recall_at(5, ranks):9.1%}")
    lines += [
        f"  {'chance':<34}{1 / num_pairs:9.1%}{min(1, 5 / num_pairs):9.1%}",
        "",
        f"zero-shot, {evaluation.num_digits} unseen digits",
        f"  {'accuracy':<34}{evaluation.digit_accuracy:9.1%}",
        f"  {'chance':<34}{0.1:9.1%}",
        "",
        "peak memory of the loss, forward and backward, measured",
        f"  {'pairs':<25}{'fused':>9}{'dense':>9}",
    ]
    for batch_size, fused_bytes, dense_bytes in memory:
        lines.append(f"  {batch_size:<25,}{fused_bytes / MIB:9,.0f}{dense_bytes / MIB:9,.0f} MiB")
    lines.append(f"  the whole run, everything included {training.peak_bytes / MIB:7,.0f} MiB")
    return "\n".join(lines)
