"""Check a backend about which nothing is known, once per machine, at its first use.

The self-check runs in the user's own process. Its verdict is kept in the user's file
(`own_verdicts.py`). One process at a time makes the check, and others wait for its verdict. Before
the check begins, a row with the source "begun" is written: if a later process finds that row, the
check killed its process, and it is not repeated.

    agrees                         passed
    wrong, nan                     failed, with the error as its reason
    an exception of the backend    failed; if it is about memory, files, the machine's C compiler or
                                   `chunked`, it may not happen again, and the verdict counts in
                                   this process only
    a lost context                 failed, and a RuntimeError: every later call of this process
                                   on the GPU would fail
"""

import contextlib
import dataclasses
import datetime
import subprocess
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import torch

from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import known, own_verdicts
from fastclip.backends.gpu.own_verdicts import OwnVerdict
from fastclip.ops.choice import Request
from fastclip.ops.self_check import NoTruth, disagreement

# Errors that may not happen again, as exceptions and as words of plain RuntimeErrors.
MAY_PASS = (MemoryError, OSError, torch.OutOfMemoryError, subprocess.SubprocessError, NoTruth)
MAY_PASS_WORDS = ("out of memory", "alloc_failed", "c compiler")
LONGEST = 500  # most characters of an exception's text


def check_once(name: str, backend: ModuleType, wanted: Request) -> None:
    """Check whether a backend is correct, unless the file has a verdict, and keep the verdict.

    Raises:
        RuntimeError: the check lost the device's context. An earlier error of the caller's kernels
            that the device has not reported yet is raised unchanged.
    """
    kind = wanted.kind
    gpu_device.synchronize(kind.device)
    asked = OwnVerdict(
        own_verdicts.environment(name, kind.device), name, backend.variant_on(kind.device),
        kind.dtype, kind.D, passed=False, reason="it has not ended", source="begun",
        date=datetime.date.today().isoformat(), primitive=kind.primitive,
        planes=kind.planes,
    )  # fmt: skip

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(own_verdicts.only_checker())
        except TimeoutError:
            known.keep_in_this_process(_failed(asked, "another process still checks it"))
            return
        except OSError:  # nothing can be kept in the file, not even that the check begins
            known.keep_in_this_process(_check(asked, backend, wanted).verdict)
            return
        before = next((row for row in own_verdicts.read() if row.key == asked.key), None)
        if before is None:
            _keep(asked)
            try:
                found = _check(asked, backend, wanted)
                _keep(found.verdict, found.is_lasting)
            finally:
                # The row "begun" is still there if the verdict is not lasting, or the check was
                # interrupted.
                with contextlib.suppress(OSError):
                    own_verdicts.withdraw(asked)
        elif before.source == "begun":
            reason = f"the process that checked it on {before.date} crashed, hung or was stopped"
            _keep(_failed(asked, reason))


class _Found(NamedTuple):
    verdict: OwnVerdict
    is_lasting: bool = True


def _check(asked: OwnVerdict, backend: ModuleType, wanted: Request) -> _Found:
    device, dtype = wanted.device, wanted.dtype
    try:
        with _apart_from_the_call(device):
            wrong = disagreement(backend, wanted.primitive, device, dtype, wanted.D)
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST]}"
        failed = _failed(asked, what)
        try:
            gpu_device.synchronize(device)
        except Exception:
            if not isinstance(error, NoTruth):
                _keep(failed)
            raise RuntimeError(
                f"the check of the backend '{asked.backend}' at its first use on this GPU "
                f"({wanted.kind}) lost the GPU's context, so that nothing more can run on it in "
                f"this process: {what}. The next process will not repeat the check: start again, "
                'with backend="chunked" if you like. `fastclip verify` checks all kernels in '
                "separate processes"
            ) from error
        return _Found(failed, not _may_pass(error))
    if wrong is not None:
        return _Found(_failed(asked, wrong))
    return _Found(dataclasses.replace(asked, passed=True, reason="", source="self-check"))


def _may_pass(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MAY_PASS) or any(words in text for words in MAY_PASS_WORDS)


def _failed(asked: OwnVerdict, reason: str) -> OwnVerdict:
    return dataclasses.replace(asked, reason=reason, source="self-check")


def _keep(row: OwnVerdict, in_the_file: bool = True) -> None:
    """Keep a row in the file; in this process only if the file cannot be written."""
    try:
        if in_the_file:
            own_verdicts.record([row])
            return
    except OSError:
        pass
    if row.source != "begun":
        known.keep_in_this_process(row)


@contextlib.contextmanager
def _apart_from_the_call(device: torch.device) -> Iterator[None]:
    """Leave the modes of the call (a compiler, torch.func, autocast, autograd) during the check.

    Within the context, new tensors are plain tensors.
    """
    with contextlib.ExitStack() as stack:
        if torch._C._len_torch_dispatch_stack() > 0:
            # Imported only here, because this imports the compiler too.
            from torch.utils._python_dispatch import _disable_current_modes

            stack.enter_context(_disable_current_modes())
        stack.enter_context(torch._C._DisableFuncTorch())
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        yield
