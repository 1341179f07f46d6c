"""Users' functions as providers, named by place: `module:function` or `file.py:function`.

The function takes (image_features, text_features, logit_scale), and for "siglip" logit_bias as
well, and returns the loss as a scalar tensor with a graph. A class is instantiated without
arguments and the instance called, so an `nn.Module` works too. Nothing is installed or edited: the
fresh process in which memory is measured finds the function by the same name.
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
    """Return whether the name of a provider is the place of a user's function."""
    return ":" in name


def own_provider(objective: str, name: str) -> Provider:
    """Return the provider at a place.

    Args:
        objective: "clip" or "siglip".
        name: "module:function" or "path/to/file.py:function"; it is the provider's name, too.

    Raises:
        ValueError: nothing callable is at this place; the message says what was found.

    Example:
        >>> own_provider("clip", "fastclip:clip_loss").name
        'fastclip:clip_loss'
    """
    loss = _loss(name)
    return Provider(name, objective, lambda: loss)


def source_of_own(name: str) -> str | None:
    """Return the state of the provider's file, or None if its module has no file."""
    file = getattr(_module(name), "__file__", None)
    return source_of(Path(file)) if file else None


def _loss(name: str) -> Loss:
    found = _module(name)
    attribute = name.rpartition(":")[2]
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"provider {name!r}: the module has no {attribute!r}")
        found = getattr(found, part)
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise ValueError(
                f"provider {name!r}: the class cannot be called without arguments: {error}"
            ) from error
    if not callable(found):
        raise ValueError(
            f"provider {name!r} cannot be called: it is of type {type(found).__name__}"
        )
    return found


def _module(name: str) -> ModuleType:
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise ValueError(f"provider {name!r} must be module:function or file.py:function")
    try:
        if place.endswith(".py"):
            return _module_of_file(Path(place).resolve())
        # For a command, unlike `python`, the working directory is not in sys.path.
        _make_importable(Path.cwd())
        return importlib.import_module(place)
    except Exception as error:
        kind = type(error).__name__
        raise ValueError(
            f"provider {name!r}: {place} cannot be imported: {kind}: {error}"
        ) from error


def _module_of_file(path: Path) -> ModuleType:
    """Return the module of the file's present content: an edited file is run again."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return _module_of_content(path, path.read_bytes())


@functools.cache
def _module_of_content(path: Path, content: bytes) -> ModuleType:
    _make_importable(path.parent)  # for modules next to the file
    digest = hashlib.sha256(bytes(path) + b"\0" + content).hexdigest()[:16]
    name = f"fastclip_provider_{path.stem}_{digest}"  # unique to this file and content
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # torch.compile and pickle find modules by their names.
    sys.modules[spec.name] = module
    try:
        # exec_module would miss an edit in the same second that keeps the file's length.
        exec(spec.loader.source_to_code(content, str(path)), vars(module))
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _make_importable(folder: Path) -> None:
    """Append the folder to sys.path, so that it hides no other module."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
