"""What the demo says: what it is about to do, and what it reached."""

from typing import NamedTuple

from fastclip.data.digits.images import LabeledImages
from fastclip.demo.evaluation import DigitEvaluation
from fastclip.evaluate.ranking import recall_at
from fastclip.models.clip import CLIP
from fastclip.train.settings.step_config import TrainConfig

MIB = 2**20


class LossMemory(NamedTuple):
    """Peak memory of one forward and backward of the loss."""

    batch_size: int
    fused_bytes: int
    dense_bytes: int


def opening(
    config: TrainConfig,
    model: CLIP,
    train: LabeledImages,
    test: LabeledImages,
    backend: str,
    threads: int,
) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    return "\n".join(
        [
            f"data      {len(train.labels):,} digits to train on, {len(test.labels)} to test on; "
            "images of up to six, with captions",
            f"model     a vision and a text transformer, {parameters:,} parameters",
            f"loss      fused, {config.batch_size:,} pairs, backend {backend}",
            f"training  {config.steps} steps on {threads} CPU threads, seed {config.seed}",
        ]
    )


def headline(evaluation: DigitEvaluation) -> str:
    """One line for the figure."""
    return (
        f"{evaluation.digit_accuracy:.1%} of unseen digits named zero-shot;  R@1 "
        f"{recall_at(1, evaluation.retrieval.image_to_text):.1%} among "
        f"{len(evaluation.pairs.captions):,} unseen captions"
    )


def closing(
    evaluation: DigitEvaluation,
    losses: list[float],
    training_seconds: float,
    memory: list[LossMemory],
    peak_run_bytes: int,
) -> str:
    num_pairs = len(evaluation.pairs.captions)
    lines = [
        f"trained in {training_seconds:.0f} s, {training_seconds / len(losses):.2f} s per step, "
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
    lines.append(f"  the whole run, everything included {peak_run_bytes / MIB:7,.0f} MiB")
    return "\n".join(lines)
