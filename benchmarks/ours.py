"""Make providers of fastclip's backends."""

from collections.abc import Callable

import torch
from torch import Tensor

import fastclip
from fastclip.backends.gpu.precision import kept_layout
from fastclip.benchmarks.cases import Case
from fastclip.ops.dispatch import load_backend


def all_logits_bytes(features: Tensor) -> int:
    return len(features) ** 2 * (8 if features.dtype == torch.float64 else 4)


def all_kept_bytes(features: Tensor) -> int:
    """Return the bytes that a GPU backend needs to keep all logits, besides its block."""
    layout = kept_layout("contrastive_lse", features.dtype)
    return layout.reserved_bytes + len(features) * layout.row_bytes(len(features))


def small_block_bytes(features: Tensor) -> int:
    """Return so few bytes that a GPU backend keeps no logit, and cuts G into blocks."""
    return 1 << 20


def no_bytes(features: Tensor) -> int:
    return 0


# The workspace for each suffix of a provider's name, and how many N x N float32 matrices it holds.
# Without a suffix, the workspace is the backend's default.
WORKSPACES = {
    "cpu": {"+workspace": (all_logits_bytes, 1), "-workspace": (no_bytes, 0)},
    "triton": {"+workspace": (all_kept_bytes, 1)},
    "cuda": {"+workspace": (all_kept_bytes, 1)},
}


def build(
    objective: str, backend: str, workspace: Callable[[Tensor], int] | None = None
) -> Callable[[], Callable[..., Tensor]]:
    """Return a builder of the public function on `backend`, with the bytes of `workspace`."""
    function = fastclip.clip_loss if objective == "clip" else fastclip.siglip_loss

    def loss(
        image_features: Tensor, text_features: Tensor, *scalars: Tensor, normalize: bool = False
    ) -> Tensor:
        num_bytes = None if workspace is None else workspace(image_features)
        return function(
            image_features, text_features, *scalars,
            normalize=normalize, backend=backend, workspace=num_bytes,
        )  # fmt: skip

    return lambda: loss


def objection(backend: str) -> Callable[[Case], str | None]:
    def own_objection(case: Case) -> str | None:
        return load_backend(backend).unsupported(case.device, case.dtype)

    return own_objection
