"""Writing one tower to an ONNX file, for batches of any size."""

import contextlib
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from fastclip.data.quoting import first_line
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.contrastive_model import ContrastiveModel

OPSET, OPSETS = 18, (17, 18, 19, 20)
WEIGHTS_ENDING = ".data"  # of the separate file of weights, for models above protobuf's 2 GB


class Encoder(nn.Module):
    """One tower of a model as a module with one input, which runs `encode_image` or `encode_text`.

    Args:
        model: the model, in evaluation mode.
        tower: "image" or "text".
        normalize: whether features have length 1.
    """

    def __init__(self, model: ContrastiveModel, tower: str, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.tower = tower
        self.normalize = normalize
        self.eval()

    def forward(self, batch: Tensor) -> Tensor:
        """Map (B, C, H, W) images or (B, T) ids of any type to (B, embed_dim) features."""
        if self.tower == "image":
            return self.model.encode_image(batch, normalize=self.normalize)
        return self.model.encode_text(batch.to(torch.int64), normalize=self.normalize)


def write_tower(
    encoder: Encoder, example: Tensor, path: Path, input_name: str, output_name: str, opset: int
) -> None:
    """Write a tower to `path`; weights above 2 GB go to a second file, `path` plus ".data".

    Args:
        example: a batch of two or more inputs.

    Raises:
        CheckpointError: the tower has an operator or a branch that cannot be exported.
        ModuleNotFoundError: onnx is not installed.
    """
    batch = {0: "batch"}
    try:
        with torch.no_grad(), _quiet():
            # The newer exporter takes half a minute for a tower of two blocks.
            torch.onnx.export(
                encoder, (example,), str(path), input_names=[input_name],
                output_names=[output_name], dynamic_axes={input_name: batch, output_name: batch},
                opset_version=opset, dynamo=False,
            )  # fmt: skip
    except (ModuleNotFoundError, OSError):
        raise
    except Exception as error:  # an encoder may be anybody's code, and raise anything
        raise CheckpointError(
            f"the {encoder.tower} tower cannot be exported to ONNX: {first_line(error)}"
        ) from error
    gather_weights(path)


def gather_weights(path: Path) -> None:
    """Gather weights that lie next to a model, in a file for each tensor, into one file.

    Do nothing if there are no such files.
    """
    import onnx

    beside = {name for name in _files_of_weights(path) if name != path.name + WEIGHTS_ENDING}
    if not beside:
        return
    model = onnx.load(str(path))
    onnx.save_model(
        model, str(path), save_as_external_data=True, all_tensors_to_one_file=True,
        location=path.name + WEIGHTS_ENDING,
    )  # fmt: skip
    for name in beside:
        (path.parent / name).unlink()


def _files_of_weights(path: Path) -> set[str]:
    """Return the names of the separate files that hold a model's tensors."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


@contextlib.contextmanager
def _quiet():
    """Hide the exporter's warnings that shapes become constants, and that it is deprecated."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
