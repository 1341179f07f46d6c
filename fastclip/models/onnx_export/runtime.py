"""Comparing an exported tower in onnxruntime with the same tower in torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fastclip.data.quoting import first_line
from fastclip.models.checkpoints.errors import CheckpointError

BATCH_SIZES = (1, 2, 7)
Run = Callable[[Tensor], Tensor]


def open_tower(path: Path) -> Run:
    """Return a function that maps a batch to features with the file's tower, on the CPU.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(session.run([returned.name], {given.name: batch.numpy()})[0])

    return run


def largest_difference(
    run: Run, encoder: nn.Module, inputs: Tensor, batch_sizes: Sequence[int] = BATCH_SIZES
) -> float:
    """Return the largest difference between both towers' features, for batches of several sizes.

    The difference is relative to the largest number, so features of any length can be compared.

    Args:
        run: the exported tower, of `open_tower`.
        encoder: the same tower in torch.
        inputs: at least as many as the largest batch size.

    Raises:
        CheckpointError: onnxruntime fails, or its features have another shape.
    """
    worst = 0.0
    for size in batch_sizes:
        with torch.no_grad():
            expected = encoder(inputs[:size])
        try:
            found = run(inputs[:size])
        except Exception as error:  # onnxruntime has no class of its own for its errors
            raise CheckpointError(
                f"onnxruntime fails for a batch of {size}: {first_line(error)}"
            ) from error
        if found.shape != expected.shape:
            raise CheckpointError(
                f"a batch of {size} gives features of shape {tuple(found.shape)} in onnxruntime, "
                f"and of shape {tuple(expected.shape)} in torch"
            )
        difference = (found - expected).abs().max() / expected.abs().max()
        worst = max(worst, difference.nan_to_num(nan=float("inf")).item())
    return worst


def cosines(run: Run, other: Run, inputs: Tensor) -> Tensor:
    """Return the (B,) cosines between the features of two files for the same inputs."""
    return nn.functional.cosine_similarity(run(inputs).double(), other(inputs).double())
