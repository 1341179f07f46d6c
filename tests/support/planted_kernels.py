"""Kernels of Hopper's set that are wrong, hang, crash or lose the device; the others stay right."""

import os
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastclip.backends import cuda
from fastclip.backends.cuda.variants import variant_on
from fastclip.benchmarks.gpu import worker


def hang(gradients: tuple[Tensor, ...]) -> None:
    time.sleep(600)


def crash(gradients: tuple[Tensor, ...]) -> None:
    os.abort()


def lose_the_device(gradients: tuple[Tensor, ...]) -> None:
    """For good: it is meant for a process of its own."""

    def fails(device: str) -> None:
        raise RuntimeError("unspecified launch failure")

    worker.synchronize = fails
    raise RuntimeError("hopper_negative_sums: an illegal memory access was encountered")


def be_nan(gradients: tuple[Tensor, ...]) -> None:
    gradients[0][0, 0] = float("nan")


def be_off_by_100_ulps(gradients: tuple[Tensor, ...]) -> None:
    gradients[0].mul_(1.0 + 100.0 * torch.finfo(gradients[0].dtype).eps)


def plant(monkeypatch: pytest.MonkeyPatch, fault: Callable[[tuple[Tensor, ...]], None]) -> None:
    """What every backward of Hopper's kernels does to its gradients, from here on."""
    for name in ("contrastive_lse_backward", "clip_loss_at_once_backward"):
        if hasattr(cuda, name):
            monkeypatch.setattr(cuda, name, _planted(getattr(cuda, name), fault))


def _planted(right: Callable, fault: Callable[[tuple[Tensor, ...]], None]) -> Callable:
    def planted(*args):
        gradients = right(*args)
        if variant_on(gradients[0].device) == "hopper":
            fault(gradients)
        return gradients

    return planted
