"""The self-check of a backend that nothing is known of: once per machine, at its first use.

It runs in the user's own process. What it found is kept in the user's file (`own_verdicts.py`); one
process at a time makes it, and the others that want it wait for its answer. Before it begins, a row
says so: where a later process finds that row, the check took its process down, and is not repeated.

    agrees                         passed
    wrong, nan                     failed, in words
    an exception of the backend    failed; one of memory, of files, of the machine's C compiler or
                                   of `chunked` may not come another time, and counts in this
                                   process only
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

# What may not come another time, as exceptions and as words of plain RuntimeErrors.
MAY_PASS = (MemoryError, OSError, torch.OutOfMemoryError, subprocess.SubprocessError, NoTruth)
MAY_PASS_WORDS = ("out of memory", "alloc_failed", "c compiler")
LONGEST = 500  # characters of an exception


def check_once(name: str, backend: ModuleType, wanted: Request) -> None:
    """Find out whether a backend is right there, unless the file says it, and keep what was found.

    Raises:
        RuntimeError: the check lost the device's context. An earlier fault of the caller's, which
            waits on the device, is raised as it is.
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
        except OSError:  # nothing can be kept there, not even that it begins
            known.keep_in_this_process(_check(asked, backend, wanted).verdict)
            return
        before = next((row for row in own_verdicts.read() if row.key == asked.key), None)
        if before is None:
            _keep(asked)
            try:
                found = _check(asked, backend, wanted)
                _keep(found.verdict, found.is_lasting)
            finally:
                # There it stands still if the verdict is not lasting, or the check was interrupted.
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
    """In this process only where the file cannot be written."""
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
    """Whatever the call is in (a compiler's modes, torch.func, autocast, autograd): tensors here
    are plain ones."""
    with contextlib.ExitStack() as stack:
        if torch._C._len_torch_dispatch_stack() > 0:
            # Imported only here: it brings the compiler with it.
            from torch.utils._python_dispatch import _disable_current_modes

            stack.enter_context(_disable_current_modes())
        stack.enter_context(torch._C._DisableFuncTorch())
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        yield
