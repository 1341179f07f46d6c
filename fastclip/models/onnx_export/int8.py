"""Converting a tower to 8-bit weights, by onnxruntime's dynamic quantization.

The weights of matrix products and the table of tokens become 8-bit numbers; the activations that
they are multiplied with are quantized while the model runs. Convolutions stay in float32.
"""

import contextlib
import logging
from pathlib import Path

QUANTIZED = ["MatMul", "Gather"]
LARGEST_FILE = 2**31 - 2**27  # protobuf's limit, with some room for the graph


def quantize(source: Path, destination: Path) -> None:
    """Write the tower at `source` with 8-bit weights to `destination`.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    weights = Path(f"{source}.data")
    size = source.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)
    with _quiet():
        # Signed weights overflow the 16-bit sums of CPUs without VNNI: for a SigLIP image tower,
        # the cosine to float32 was 0.98 with signed weights and 0.9999 with unsigned ones.
        quantize_dynamic(
            source, destination, op_types_to_quantize=QUANTIZED, weight_type=QuantType.QUInt8,
            per_channel=True, use_external_data_format=size > LARGEST_FILE,
        )  # fmt: skip


@contextlib.contextmanager
def _quiet():
    """Hide the advice to optimize the graph first: onnxruntime does so when it loads the graph."""
    root = logging.getLogger()
    root.disabled, before = True, root.disabled
    try:
        yield
    finally:
        root.disabled = before
