"""Exporting a model to a folder of ONNX files, with the settings of its images and texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from fastclip.data.patches import NAFLEX
from fastclip.data.tokenizers.tokenizer_check import TEXTS, TokenizerCheck
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.inference import InferenceModel
from fastclip.models.lone_tower import TOWERS
from fastclip.models.onnx_export.int8 import quantize
from fastclip.models.onnx_export.layouts import LAYOUTS, OnnxLayout
from fastclip.models.onnx_export.packages import is_installed, require_packages
from fastclip.models.onnx_export.runtime import (
    BATCH_SIZES,
    cosines,
    largest_difference,
    open_tower,
)
from fastclip.models.onnx_export.settings_files import write_settings
from fastclip.models.onnx_export.tower_graph import OPSET, OPSETS, Encoder, write_tower
from fastclip.new_directory import new_directory

TOLERANCE = 1e-4


@dataclass(frozen=True)
class TowerExport:
    """The result of exporting one tower.

    Attributes:
        file: the path of the file, relative to the folder.
        num_bytes: the size of the file, plus the separate file of its weights if there is one.
        sizes: the shape of one input, such as (3, 224, 224) or (77,).
        embed_dim: the dimension of the features.
        difference: the largest difference of the features in float32 to torch's, see
            `runtime.py`; None if onnxruntime is not installed.
        cosines: (B,), the cosines between features with 8-bit weights and in float32, for images of
            noise or for texts; None without 8-bit weights.
    """

    file: str
    num_bytes: int
    sizes: tuple[int, ...]
    embed_dim: int
    difference: float | None
    cosines: Tensor | None


@dataclass(frozen=True)
class OnnxExport:
    """The result of `export_onnx`.

    Attributes:
        directory: the folder that was written.
        towers: the results of the towers, by "image" and "text".
        tokenizer: how `tokenizer.json` compares with the model's tokenizer; None if it was not
            written, or the package tokenizers is not installed.
        objections: why the program that the layout is for would give the model wrong inputs.
    """

    directory: Path
    towers: dict[str, TowerExport]
    tokenizer: TokenizerCheck | None
    objections: list[str]


def export_onnx(
    ready: InferenceModel,
    destination: str | PathLike,
    *,
    layout: str = "immich",
    normalize: bool = True,
    int8: bool = False,
    opset: int = OPSET,
) -> OnnxExport:
    """Write both towers as ONNX for batches of any size, and check them in onnxruntime.

    If the export fails, there is no folder.

    Args:
        ready: a model of `open_model(..., device="cpu", precision="fp32")`.
        destination: the folder, which must not exist.
        layout: the program that reads the folder, a name in `layouts.LAYOUTS`.
        normalize: whether features have length 1, which both programs accept.
        int8: whether weights have 8 bits; see `int8.py`. Otherwise the files compute in float32.
        opset: the version of ONNX's operators.

    Raises:
        CheckpointError: a tower cannot be exported, onnxruntime's features differ from torch's
            by more than `TOLERANCE`, or `tokenizer.json` has other ids than the tokenizer.
        FileExistsError: there is something at `destination`.
        ModuleNotFoundError: onnx is not installed; or, for 8-bit weights, onnxruntime is not.
        TypeError, ValueError: the model is not on the CPU and in float32, the layout is unknown or
            has no place for the model, or the tokenizer cannot be written.

    Example:
        >>> ready = open_model("logs/my-run", device="cpu", precision="fp32")
        >>> export_onnx(ready, "my-run-onnx").towers["image"].difference
        2.3e-07
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if opset not in OPSETS:
        raise ValueError(f"opset must be one of {', '.join(map(str, OPSETS))}, got {opset!r}")
    require_packages(int8)
    _require_plain(ready)
    place = LAYOUTS[layout]
    objections = place.objections(ready)
    if objections and not place.brings_settings:
        raise ValueError(f"{layout} cannot use {ready.name}: {'; '.join(objections)}")
    with new_directory(Path(destination)) as directory:
        towers = {}
        for tower in TOWERS:
            encoder = Encoder(ready.model, tower, normalize)
            inputs = _images(ready) if tower == "image" else _tokens(ready, place)
            (directory / place.files[tower]).parent.mkdir(exist_ok=True)
            towers[tower] = _write_tower(directory, place, encoder, inputs, int8, opset)
        check = write_settings(directory, ready) if place.brings_settings else None
    return OnnxExport(Path(destination), towers, check, objections)


def _require_plain(ready: InferenceModel) -> None:
    model = ready.model
    kinds = {(value.device.type, value.dtype) for value in model.parameters()}
    if kinds != {("cpu", torch.float32)} or ready.only is not None:
        raise ValueError(
            "an export needs both towers on the CPU and in float32: "
            'open_model(..., device="cpu", precision="fp32")'
        )
    if ready.preprocess_cfg.get("resize_mode") == NAFLEX:
        raise ValueError(
            f"{ready.name} cannot be exported: its images keep their aspect ratios (resize_mode "
            f"{NAFLEX!r}), and the programs that read the folder take images of one size"
        )
    if getattr(model, "writes_captions", False):
        raise ValueError(
            "a model that writes captions cannot be exported: its towers return tokens as well"
        )
    text = getattr(model, "text", model)
    if getattr(model.visual, "output_tokens", False) or getattr(text, "output_tokens", False):
        raise ValueError(
            "a model whose towers have output_tokens=True cannot be exported: set it to False"
        )


def _images(ready: InferenceModel) -> Tensor:
    size = ready.preprocess_cfg["size"]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = getattr(ready.model.visual, "channels", 3)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(max(BATCH_SIZES), channels, height, width, generator=generator)


def _tokens(ready: InferenceModel, layout: OnnxLayout) -> Tensor:
    return ready.tokenizer(list(TEXTS[1:]), truncate=True).to(layout.token_type)


def _write_tower(
    directory: Path, layout: OnnxLayout, encoder: Encoder, inputs: Tensor, int8: bool, opset: int
) -> TowerExport:
    tower = encoder.tower
    path = directory / layout.files[tower]
    with _place_of_float32(path, int8) as in_float32:
        write_tower(encoder, inputs[:2], in_float32, layout.inputs[tower], layout.output, opset)
        difference = _checked(in_float32, encoder, inputs)
        found = None
        if int8:
            quantize(in_float32, path)
            found = cosines(open_tower(path), open_tower(in_float32), inputs)
    files = [path, path.with_name(f"{path.name}.data")]
    with torch.no_grad():
        embed_dim = encoder(inputs[:1]).shape[-1]
    return TowerExport(
        layout.files[tower], sum(file.stat().st_size for file in files if file.is_file()),
        tuple(inputs.shape[1:]), embed_dim, difference, found,
    )  # fmt: skip


@contextmanager
def _place_of_float32(path: Path, int8: bool) -> Iterator[Path]:
    """Yield the place of the float32 tower; with 8-bit weights it is a temporary file."""
    if not int8:
        yield path
        return
    with TemporaryDirectory(dir=path.parent) as scratch:
        yield Path(scratch, path.name)


def _checked(path: Path, encoder: Encoder, inputs: Tensor) -> float | None:
    if not is_installed("onnxruntime"):
        return None
    try:
        difference = largest_difference(open_tower(path), encoder, inputs)
    except CheckpointError as error:
        raise CheckpointError(f"the {encoder.tower} tower: {error}") from error
    if difference > TOLERANCE:
        raise CheckpointError(
            f"the {encoder.tower} tower: the features in onnxruntime differ from torch's by "
            f"{difference:.1e} of the largest number, more than the {TOLERANCE} that are allowed"
        )
    return difference
