"""Averages, kept as logarithms, of samples that a batch has once or several times.

-inf stands for a sample without an average yet, or for a batch that adds nothing to one.
"""

import math

import torch
from torch import Tensor


def averaged(last: Tensor, log_g: Tensor, gamma: float) -> Tensor:
    """Return log((1 - gamma) exp(last) + gamma exp(log_g)), or the other one if one is -inf."""
    log_share = math.log(gamma)
    log_rest = math.log1p(-gamma) if gamma < 1 else float("-inf")
    both = torch.logaddexp(log_rest + last, log_share + log_g)
    is_first, has_none = last == float("-inf"), log_g == float("-inf")
    return torch.where(has_none, last, torch.where(is_first, log_g, both))


def log_means(logs: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the samples (U,), the log of the mean of each one's exponentials, (2, U), and where
    each index is among the samples, (N,). `logs` are (2, N); the mean leaves out exponentials of 0.
    """
    samples, places = indices.unique(return_inverse=True)
    rows = places.expand_as(logs)
    zeros = logs.new_zeros((2, len(samples)))
    largest = torch.full_like(zeros, float("-inf")).scatter_reduce(1, rows, logs, "amax")
    largest = largest.masked_fill(largest == float("-inf"), 0.0)
    totals = zeros.scatter_add(1, rows, (logs - largest[:, places]).exp())
    counts = zeros.scatter_add(1, rows, (logs > float("-inf")).to(logs.dtype))
    return samples, largest + (totals / counts.clamp(min=1)).log(), places
