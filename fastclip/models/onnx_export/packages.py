"""The packages that an export, or the check of its result, needs."""

import importlib

from fastclip.installation import install_command


def require_packages(int8: bool = False) -> None:
    """Raise unless the packages that an export needs are installed.

    Raises:
        ModuleNotFoundError: onnx is missing, or onnxruntime, which is needed for 8-bit weights.
    """
    for name in ("onnx", "onnxruntime") if int8 else ("onnx",):
        if not is_installed(name):
            what = "8-bit weights need" if name == "onnxruntime" else "the export needs"
            raise ModuleNotFoundError(f"{what} {name}: {install_command('onnx', name)}", name=name)


def is_installed(name: str) -> bool:
    """Whether a package can be imported."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return False
    return True
