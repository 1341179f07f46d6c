"""Where kernels run, as far as a verdict on them depends on it: GPU, driver, versions, kernels."""

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
# What of the package a verdict on a backend is about, as patterns; "eager" is open_clip's formula.
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
    """Where a verdict holds. The text of what is not there, such as a driver, is empty."""

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
        """What is not the same in both, in words."""
        words = {"digest": "the kernels themselves", "fastclip": "fastclip's version",
                 "torch": "torch's version", "triton": "Triton's version"}  # fmt: skip
        names = [field.name for field in dataclasses.fields(self)]
        differ = [name for name in names if getattr(self, name) != getattr(other, name)]
        return [words.get(name, f"the {name}") for name in differ]


def environment(backend: str, device: torch.device) -> Environment:
    """Of this process, as verdicts on `backend`, a key of DIGESTED, see it."""
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
    # Under Windows the file is missing: the version of the driver's interface.
    return str(torch._C._cuda_getDriverVersion())


@functools.cache
def _triton_version() -> str:
    for name in TRITONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return ""
