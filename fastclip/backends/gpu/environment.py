"""The environment on which a verdict on kernels depends: GPU, driver, versions, kernels."""

import contextlib
import dataclasses
import functools
import hashlib
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from fastclip.backends.gpu import device as gpu_device

PACKAGE = Path(__file__).parents[2]
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
TRITONS = ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm")  # distributions
# The files that a verdict on a backend depends on, as patterns; "eager" is open_clip's formula.
DIGESTED = {
    "triton": ("backends/triton", "backends/gpu"),
    "cuda": ("_cuda.so", "backends/cuda", "backends/gpu"),
    "chunked": (
        "backends/chunked*", "backends/normalization.py", "backends/gpu/operand.py",
        "backends/gpu/products.py",
    ),
    "eager": (),
}  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """The environment in which a verdict holds. A missing part, such as a driver, is ""."""

    device: str  # its name, for example "NVIDIA H200"
    architecture: str  # as `device.architecture` names it
    driver: str
    torch: str
    triton: str
    fastclip: str
    digest: str  # SHA-256 of the kernels' files

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, str):
                raise ValueError(f"environment.{name} cannot be {value!r}")

    def differences(self, other: "Environment") -> list[str]:
        """Name the parts that differ, in words."""
        words = {"digest": "the kernels themselves", "fastclip": "fastclip's version",
                 "torch": "torch's version", "triton": "Triton's version"}  # fmt: skip
        names = [field.name for field in dataclasses.fields(self)]
        differ = [name for name in names if getattr(self, name) != getattr(other, name)]
        return [words.get(name, f"the {name}") for name in differ]


def environment(backend: str, device: torch.device) -> Environment:
    """Return this process's environment for verdicts on `backend`, a key of DIGESTED."""
    from fastclip import __version__

    on_gpu = device.type == "cuda"
    return Environment(
        device=gpu_device.name(device),
        architecture=gpu_device.architecture(device),
        driver=_driver() if on_gpu else "",
        torch=torch.__version__,
        triton=_triton_version(),
        fastclip=__version__,
        digest=_digest(backend),
    )


@functools.cache
def _digest(backend: str) -> str:
    digest = hashlib.sha256()
    places = (place for pattern in DIGESTED[backend] for place in sorted(PACKAGE.glob(pattern)))
    for place in places:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            content = file.read_bytes()
            title = f"{file.relative_to(PACKAGE).as_posix()} {len(content)}\n"
            digest.update(title.encode() + content)
    return digest.hexdigest()


@functools.cache
def _driver() -> str:
    if torch.version.hip is not None:
        return f"HIP {torch.version.hip}"
    with contextlib.suppress(OSError):
        text = NVIDIA_DRIVER.read_text(errors="replace")
        if found := re.search(r"Kernel Module.*?\s(\d+(\.\d+)+)", text):
            return found[1]
    # Windows has no such file: take the version of the driver's interface.
    return str(torch._C._cuda_getDriverVersion())


@functools.cache
def _triton_version() -> str:
    for name in TRITONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return ""
