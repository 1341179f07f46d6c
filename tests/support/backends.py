"""The backends that compute on a CPU, as parameters of tests.

The fixtures `backend` and `fused_backend` run a test with each of `BACKENDS`. A grid of several
parameters takes the names in `AVAILABLE` as one of them, by `cover_pairs`: what is not available
here is skipped, with the reason, where the fixture is used.
"""

import pytest

from fastclip.ops.dispatch import ORDER, explain_backends

BACKENDS = [
    pytest.param(
        name,
        marks=() if why is None else pytest.mark.skip(reason=f"backend '{name}': {why}"),
    )
    for name, why in explain_backends().items()
    if name
    not in ("triton", "cuda")  # need a GPU or emulation, have no float64: tests/backends/gpu
]
assert len(BACKENDS) == len(ORDER) - 2
# Those that never hold an N x N tensor.
FUSED_BACKENDS = [b for b in BACKENDS if b.values[0] != "reference"]
AVAILABLE = [b.values[0] for b in BACKENDS if not b.marks]
FUSED = [b.values[0] for b in FUSED_BACKENDS if not b.marks]
