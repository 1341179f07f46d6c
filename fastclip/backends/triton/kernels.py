"""Triton's set of kernels, with the interface that `fastclip/backends/gpu` defines."""

from fastclip.backends.triton.feature_gradients import feature_gradient
from fastclip.backends.triton.finalise import finalise
from fastclip.backends.triton.logit_gradients import from_kept, recomputed
from fastclip.backends.triton.negative_sums import partials
from fastclip.backends.triton.operands import prepare
from fastclip.backends.triton.positives import positives
from fastclip.backends.triton.scalars import scalars
from fastclip.backends.triton.sigmoid_tiles import sigmoid_tiles

__all__ = [
    "feature_gradient",
    "finalise",
    "from_kept",
    "partials",
    "positives",
    "prepare",
    "recomputed",
    "scalars",
    "sigmoid_tiles",
]
