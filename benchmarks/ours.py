"""fastclip's backends as providers."""

from collections.abc import Callable

import torch
from torch import Tensor

import fastclip
from fastclip.benchmarks.cases import Case


def all_logits_bytes(features: Tensor) -> int:
    return len(features) ** 2 * (8 if features.dtype == torch.float64 else 4)


def no_bytes(features: Tensor) -> int:
    return 0


# What a backend may keep of the forward for the backward, by the suffix of the provider's name.
# Without a suffix it is the backend's own default.
WORKSPACES = {"cpu": {"+workspace": all_logits_bytes, "-workspace": no_bytes}}


def build(
    objective: str, backend: str, workspace: Callable[[Tensor], int] | None = None
) -> Callable[[], Callable[..., Tensor]]:
    """The public function on `backend`, with as many bytes as `workspace` says for the features."""
    function = fastclip.clip_loss if objective == "clip" else fastclip.siglip_loss

    def loss(image_features: Tensor, text_features: Tensor, *scalars: Tensor) -> Tensor:
        num_bytes = None if workspace is None else workspace(image_features)
        return function(
            image_features, text_features, *scalars, backend=backend, workspace=num_bytes
        )

    return lambda: loss


def objection(backend: str) -> Callable[[Case], str | None]:
    def own_objection(case: Case) -> str | None:
        return fastclip.explain_backends(torch.empty(1, 1, dtype=case.dtype))[backend]

    return own_objection
