"""Builds the native module `fastclip._C_torchX_Y` and the CUDA library `fastclip/_cuda.so`.

FASTCLIP_BUILD chooses what is built:

    auto   (default) what this machine can build; pure Python, saying so, where it cannot
    none   pure Python
    cpu    the C++ kernels; fails if they cannot be built
    cuda   the C++ and the CUDA kernels; fails if they cannot be built

torch is needed at build time and taken from the environment: use `pip install
--no-build-isolation`. torch's own MAX_JOBS, CXX, CUDA_HOME and TORCH_CUDA_ARCH_LIST are respected.
The CUDA kernels need nvcc and no GPU, and use torch's stable ABI: they are built beside a torch for
the CPU too, and load with any torch from 2.11 on. The native module has autograd nodes, which are
not in the stable ABI: it serves the minor version of torch that its name says. Modules for several
versions may lie next to each other; `.github/merge_wheels.py` puts them into one wheel.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

CHOICES = ("auto", "none", "cpu", "cuda")
CXX_FLAGS = ("-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wall")
STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"  # of torch 2.11
# sm_90a has kernels of its own (csrc/cuda/hopper); PTX serves what is newer than all.
CUDA_ARCHITECTURES = "8.0 9.0a 10.0+PTX"
NVCC_FLAGS = ("-O3", "-std=c++17", "-Xcompiler=-fPIC", "-Xcompiler=-fvisibility=hidden")


def native_extensions(choice: str) -> dict:
    """Arguments of `setup` for what is compiled."""
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    class Build(BuildExtension):
        def run(self):
            # One after the other: where one cannot be built, the other may.
            wanted, compiler, built = self.extensions, self.compiler, []
            for extension in wanted:
                self.extensions, self.compiler = [extension], compiler
                try:
                    super().run()
                    built.append(extension)
                except Exception as error:
                    if choice != "auto":
                        raise
                    say(f"{extension.name} could not be built, installing without it: {error}")
            self.extensions = built

        def build_extension(self, extension):
            if isinstance(extension, CudaLibrary):
                extension.build(Path(self.get_ext_fullpath(extension.name)), self.build_temp)
            else:
                super().build_extension(extension)

        def get_ext_filename(self, name):
            if name.endswith("_cuda"):
                # No Python module: the same for every Python.
                return os.path.join(*name.split(".")) + ".so"
            return super().get_ext_filename(name)

    flags = " ".join(CXX_FLAGS)
    extensions = [
        CppExtension(
            native_module(torch.__version__),
            sources("csrc/*.cpp", "csrc/cpu/*.cpp"),
            depends=sources("csrc/cpu/*.h"),
            extra_compile_args=[*CXX_FLAGS, f'-DFASTCLIP_CXX_FLAGS="{flags}"'],
            extra_link_args=["-fopenmp"],
        )
    ]
    nvcc = find_nvcc()
    if choice == "cuda" and nvcc is None:
        raise SystemExit("FASTCLIP_BUILD=cuda needs nvcc: in CUDA_HOME/bin, or on PATH without it")
    if nvcc is not None and choice in ("auto", "cuda"):
        extensions.append(CudaLibrary(nvcc))
    return {"ext_modules": extensions, "cmdclass": {"build_ext": Build}}


def native_module(torch_version: str) -> str:
    """As `fastclip.backends.native` looks for it: "fastclip._C_torch2_13" for "2.13.0+cpu"."""
    return "fastclip._C_torch" + "_".join(torch_version.split(".")[:2])


class CudaLibrary(Extension):
    """The kernels of csrc/cuda: nvcc sees them and not torch, the C++ compiler the registration."""

    def __init__(self, nvcc: str) -> None:
        kernels = sources("csrc/cuda/**/*.cu")
        headers = sources("csrc/cuda/**/*.h", "csrc/cuda/**/*.cuh")
        # Not among the sources, or torch's command would ask for a torch with CUDA.
        super().__init__("fastclip._cuda", sources("csrc/cuda/*.cpp"), depends=kernels + headers)
        self.nvcc, self.kernels = nvcc, kernels

    def build(self, library: Path, build_temp: str) -> None:
        from torch.utils.cpp_extension import include_paths, library_paths

        folder = Path(build_temp).resolve() / "cuda"
        folder.mkdir(parents=True, exist_ok=True)
        library.parent.mkdir(parents=True, exist_ok=True)
        architectures = requested_architectures(self.nvcc)
        compiled = " ".join(name for _, name in architectures)
        rules = {
            "cu": [self.nvcc, *NVCC_FLAGS, *(flag for flag, _ in architectures)],
            "cpp": [
                os.environ.get("CXX", "c++"), "-O2", "-std=c++20", "-fPIC", "-fvisibility=hidden",
                "-Wall", STABLE_ABI, *(f"-isystem {path}" for path in include_paths()),
                f"'-DFASTCLIP_CUDA_ARCHITECTURES=\"{compiled}\"'",
            ],
            "link": [
                self.nvcc, "-shared", "-cudart=static", *(flag for flag, _ in architectures),
                *(f"-L{path}" for path in library_paths()), "-ltorch_cpu",
            ],
        }  # fmt: skip
        (folder / "build.ninja").write_text(
            ninja_file(rules, [*self.kernels, *self.sources], library.resolve())
        )
        jobs = os.environ.get("MAX_JOBS")
        command = ["ninja", "-C", str(folder), *(["-j", jobs] if jobs else [])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)


def ninja_file(rules: dict[str, list[str]], sources: list[str], library: Path) -> str:
    lines = []
    for kind in ("cu", "cpp"):
        lines += [
            f"rule {kind}",
            f"  command = {' '.join(rules[kind])} -MD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
        ]
    # The order of flags matters: libraries after the objects that need them.
    nvcc, *flags = rules["link"]
    lines += ["rule link", f"  command = {nvcc} -o $out $in {' '.join(flags)}"]
    objects = []
    for source in sources:
        objects.append(source.replace("/", "_") + ".o")
        kind = source.rpartition(".")[2]
        lines.append(f"build {objects[-1]}: {kind} {Path(source).resolve()}")
    return "\n".join([*lines, f"build {library}: link {' '.join(objects)}", ""])


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        return shutil.which("nvcc", path=f"{home}/bin")
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def requested_architectures(nvcc: str) -> list[tuple[str, str]]:
    """Flags of nvcc and the names of what they compile: ("-gencode ...", "sm_90a")."""
    requested = os.environ.get("TORCH_CUDA_ARCH_LIST")
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout.split()
    found = []
    for entry in re.split(r"[;\s]+", (requested or CUDA_ARCHITECTURES).strip()):
        match = re.fullmatch(r"(\d+)\.(\d)(a?)(\+PTX)?", entry)
        if match is None:
            raise ValueError(f"TORCH_CUDA_ARCH_LIST: expected 8.0, 9.0a or 10.0+PTX, got {entry!r}")
        major, minor, specific, ptx = match.groups()
        # Hopper's kernels are in sm_90a, which runs on every GPU that sm_90 runs on.
        digits = f"{major}{minor}" + ("a" if (major, minor) == ("9", "0") else specific)
        if not requested and f"compute_{digits.rstrip('a')}" not in known:
            continue  # this toolkit is older
        found.append((f"-gencode arch=compute_{digits},code=sm_{digits}", f"sm_{digits}"))
        if ptx:
            found.append((f"-gencode arch=compute_{digits},code=compute_{digits}",
                          f"compute_{digits}"))  # fmt: skip
    return found


def sources(*patterns: str) -> list[str]:
    return sorted(str(path) for pattern in patterns for path in Path().glob(pattern))


def packages() -> list[str]:
    """Those of fastclip/, and benchmarks/ as the part of it that it is when installed."""
    beside = find_packages(include=["benchmarks", "benchmarks.*"])
    return [
        *find_packages(include=["fastclip", "fastclip.*"]),
        *(f"fastclip.{name}" for name in beside),
    ]


def say(message: str) -> None:
    print(f"fastclip: {message}", file=sys.stderr)


def build_arguments() -> dict:
    choice = os.environ.get("FASTCLIP_BUILD", "auto")
    if choice not in CHOICES:
        raise SystemExit(f"FASTCLIP_BUILD must be one of {CHOICES}, got {choice!r}")
    if choice == "none":
        return {}
    try:
        return native_extensions(choice)
    except ImportError as error:
        if choice != "auto":
            raise SystemExit(
                f"FASTCLIP_BUILD={choice} needs torch at build time ({error}); "
                "install torch first, then use pip install --no-build-isolation"
            ) from error
        say(f"torch is not importable in the build ({error}), installing pure Python")
        return {}


setup(packages=packages(), **build_arguments())
