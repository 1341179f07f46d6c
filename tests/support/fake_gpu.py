"""A machine with a GPU, for "auto": the CPU in its place, and `chunked` in the place of Triton's
kernels, right or planted with a mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastclip.backends import chunked, cpu, cuda, triton
from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import known, own_verdicts, verified
from fastclip.ops import calls, dispatch

Mistake = Callable[[str, tuple], tuple]  # of a function's name and its results

FEATURES = torch.nn.functional.normalize(torch.arange(60.0).sin().view(6, 10), dim=1)
FUNCTIONS = ("contrastive_lse", "contrastive_lse_backward", "siglip_sum", "siglip_sum_backward")


def install(
    monkeypatch: pytest.MonkeyPatch, cache: Path, mistake: Mistake | None = None
) -> list[str]:
    """Returns the list of the calls of Triton's primitives, to which each is added."""
    called: list[str] = []

    def planted(name: str, function: Callable) -> Callable:
        def call(*args: Any) -> tuple:
            called.append(name)
            results = function(*args)
            return results if mistake is None else mistake(name, results)

        return call

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(gpu_device, "is_gpu", lambda device: device.type == "cpu")
    monkeypatch.setattr(gpu_device, "name", lambda device: "Fake H200")
    monkeypatch.setattr(gpu_device, "architecture", lambda device: "sm_90")
    monkeypatch.setattr(verified, "table", lambda: ())
    monkeypatch.setattr(cpu, "unsupported", lambda *kind: "not on this machine")
    monkeypatch.setattr(triton, "unsupported", lambda *kind: None)
    monkeypatch.setattr(cuda, "unsupported", lambda *kind: None)
    monkeypatch.setattr(cuda, "variant_on", lambda device: "hopper")
    monkeypatch.setattr(triton, "kept_layout", chunked.kept_layout)
    for name in FUNCTIONS:
        monkeypatch.setattr(triton, name, planted(name, getattr(chunked, name)))
    one_pass = planted("siglip_sum_with_gradients", _siglip_sum_with_gradients)
    monkeypatch.setattr(triton, "siglip_sum_with_gradients", one_pass)
    new_process()
    return called


def new_process() -> None:
    """Forget what a process knows."""
    known.forget_choices()
    calls._check_that_it_runs.cache_clear()


def auto(features: torch.Tensor = FEATURES, **options: Any) -> str:
    return dispatch.resolve_backend("auto", features, **options)


def refused(**options: Any) -> str:
    """What is warned of where "auto" takes `chunked`."""
    with pytest.warns(UserWarning) as caught:
        assert auto(**options) == "chunked"
    (warning,) = caught
    return str(warning.message)


def rows() -> list[own_verdicts.OwnVerdict]:
    return list(own_verdicts.read())


def raising(error: BaseException) -> Mistake:
    def mistake(*args):
        raise error

    return mistake


def nan(name: str, results: tuple) -> tuple:
    return (results[0].fill_(float("nan")), *results[1:])


def _siglip_sum_with_gradients(rectangle, logit_bias, workspace, grad_dtype, wants):
    row_loss, kept = chunked.siglip_sum(rectangle, logit_bias, workspace, 0)
    grad_row, grad_col, *of_scalars = chunked.siglip_sum_backward(
        rectangle, logit_bias, torch.ones_like(row_loss), kept, workspace, wants
    )
    return row_loss.sum(), grad_row.to(grad_dtype), grad_col.to(grad_dtype), *of_scalars
