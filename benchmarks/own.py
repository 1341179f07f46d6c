"""Kernels of one's own as providers, by where they are: `module:function` or `file.py:function`.

The function takes what the objective's losses take, (image_features, text_features, logit_scale)
and for "siglip" logit_bias, and returns the loss as a scalar tensor with a graph. A class is made
without arguments and called, so that an `nn.Module` serves. Nothing is installed or edited: a fresh
process, in which memory is measured, finds the function by the same name.
"""

import functools
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from fastclip.benchmarks.commit import source_of
from fastclip.benchmarks.provider import Loss, Provider


def is_own(name: str) -> bool:
    """Is the name of a provider a place, and none of those that fastclip knows?"""
    return ":" in name


def own_provider(objective: str, name: str) -> Provider:
    """The provider at a place.

    Args:
        objective: "clip" or "siglip".
        name: "module:function" or "path/to/file.py:function"; it is the provider's name, too.

    Raises:
        ValueError: nothing that can be called is there; the message says what was found.

    Example:
        >>> own_provider("clip", "fastclip:clip_loss").name
        'fastclip:clip_loss'
    """
    loss = _loss(name)
    return Provider(name, objective, lambda: loss)


def source_of_own(name: str) -> str | None:
    """What tells two states of the provider's file apart; None if its module has no file."""
    file = getattr(_module(name), "__file__", None)
    return source_of(Path(file)) if file else None


def _loss(name: str) -> Loss:
    found = _module(name)
    attribute = name.rpartition(":")[2]
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"provider {name!r}: there is no {attribute!r}")
        found = getattr(found, part)
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise ValueError(
                f"provider {name!r}: the class cannot be made without arguments: {error}"
            ) from error
    if not callable(found):
        raise ValueError(f"provider {name!r}: cannot be called, it is a {type(found).__name__}")
    return found


def _module(name: str) -> ModuleType:
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise ValueError(f"provider {name!r} must be module:function or file.py:function")
    try:
        if place.endswith(".py"):
            return _module_of_file(Path(place).resolve())
        # A command's path, other than an interpreter's, lacks the working directory.
        _make_importable(Path.cwd())
        return importlib.import_module(place)
    except Exception as error:
        kind = type(error).__name__
        raise ValueError(
            f"provider {name!r}: {place} cannot be imported: {kind}: {error}"
        ) from error


def _module_of_file(path: Path) -> ModuleType:
    """The module of what the file holds now: an edited file is run again."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return _module_of_content(path, path.read_bytes())


@functools.cache
def _module_of_content(path: Path, content: bytes) -> ModuleType:
    _make_importable(path.parent)  # for what lies beside it
    digest = hashlib.sha256(bytes(path) + b"\0" + content).hexdigest()[:16]
    name = f"fastclip_provider_{path.stem}_{digest}"  # of no other file or state
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # torch.compile and pickle find modules by their names.
    sys.modules[spec.name] = module
    try:
        # Not by exec_module, whose cached bytecode misses an edit of the same second and length.
        exec(spec.loader.source_to_code(content, str(path)), vars(module))
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _make_importable(folder: Path) -> None:
    """Behind everything else, so that nothing is hidden by it."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
