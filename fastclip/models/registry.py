"""Resolving a model's name to an architecture, a directory, or a repository.

ViT-B-32                        a name of `list_models()`: open_clip's names, built in or added
ViT-B/32, ViT-L/14@336px        OpenAI's spellings of the same
local-dir:/path, or a path      a directory with a configuration, and usually weights
my-model.json                   a file with an architecture in open_clip's JSON, without weights
hf-hub:organisation/name        such a directory on the Hugging Face Hub

The modules that read and fetch weights are imported only where they are used, so that listing names
does not need them.
"""

import os
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastclip.data.json_file import read_json_object
from fastclip.models.clip_config import ClipConfig
from fastclip.models.open_clip_config import from_json
from fastclip.models.presets import PRESETS

if TYPE_CHECKING:
    from fastclip.data.preprocess import PreprocessCfg

LOCAL_DIRECTORY, HUB = "local-dir:", "hf-hub:"
CONFIGURATION_SUFFIX = ".json"
OPENAI_SPELLINGS = {"ViT-L/14@336px": "ViT-L-14-336"}

architectures: dict[str, ClipConfig] = dict(PRESETS)


def list_models() -> list[str]:
    """Return the names of all architectures, built in or added.

    Example:
        >>> "ViT-B-32" in fastclip.list_models()
        True
    """
    return list(architectures)


def add_model_config(path: str | PathLike) -> None:
    """Add the architecture in a JSON file of open_clip's kind, or in all such files of a directory.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: a file is not a model configuration, or asks for a tower that is not built in.

    Example:
        >>> fastclip.add_model_config("my-model.json")
        >>> model = fastclip.create_model("my-model")
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no model configuration at {path}")
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        values = read_json_object(file)
        try:
            architectures[file.stem] = from_json(values)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error


def get_model_config(model_name: str, cache_dir: str | PathLike | None = None) -> ClipConfig:
    """Return the architecture that a name stands for.

    Args:
        model_name: the name of an architecture, a directory, a repository or a JSON file.
        cache_dir: where files of a repository are kept, instead of the Hub's own cache.

    Returns:
        A configuration, which can also be read like open_clip's dict.

    Raises:
        ValueError: there is no architecture of that name; the message lists similar names.
        FileNotFoundError, CheckpointError: the directory, repository or file holds none.

    Example:
        >>> fastclip.get_model_config("ViT-B-32")["embed_dim"]
        512
    """
    place = Place.of(model_name)
    if place is not None:
        from fastclip.models.checkpoints.stored_model import read_config

        return read_config(place.directory(cache_dir, config_only=True))
    if is_configuration_file(model_name):
        return read_configuration_file(model_name)[0]
    name = open_clip_name(model_name)
    if name not in architectures:
        raise ValueError(
            f"there is no {'model, file or folder' if '/' in model_name else 'model'} "
            f"{model_name!r}: {_near(model_name)}; fastclip.list_models() lists all models"
        )
    return architectures[name]


def is_configuration_file(model_name: str) -> bool:
    """Whether a name is of a JSON file with an architecture, by its suffix ".json"."""
    return model_name.lower().endswith(CONFIGURATION_SUFFIX)


def read_configuration_file(path: str) -> "tuple[ClipConfig, PreprocessCfg | None]":
    """Return the architecture in a JSON file, and its settings of preprocessing or None.

    Args:
        path: a file like open_clip's model configurations (`embed_dim`, `vision_cfg`, `text_cfg`),
            or like its `open_clip_config.json`, which has `preprocess_cfg` as well.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is not a configuration, or asks for a tower that is not built in.
    """
    from fastclip.models.checkpoints.stored_model import read_open_clip_settings

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model configuration at {path}")
    return read_open_clip_settings(Path(path))


def parse_model_name(model_name: str) -> tuple[str | None, str]:
    """Split a name into "local-dir", "hf-hub" or None, and the part after the colon.

    Raises:
        ValueError: there is nothing after the colon.
    """
    for prefix in (LOCAL_DIRECTORY, HUB):
        if model_name.startswith(prefix):
            rest = model_name.removeprefix(prefix)
            if not rest:
                raise ValueError(f"model_name {model_name!r} names nothing after the colon")
            return prefix.removesuffix(":"), rest
    return None, model_name


def open_clip_name(model_name: str) -> str:
    """Return a name in open_clip's spelling, also from OpenAI's."""
    return OPENAI_SPELLINGS.get(model_name, model_name).replace("/", "-")


class Place(NamedTuple):
    """A directory or a repository that a name stands for, instead of an architecture."""

    path: Path | None
    repository: str | None

    @classmethod
    def of(cls, model_name: str) -> "Place | None":
        if model_name.startswith(HUB):
            return cls(None, model_name.removeprefix(HUB))
        if model_name.startswith(LOCAL_DIRECTORY):
            path = Path(model_name.removeprefix(LOCAL_DIRECTORY))
            if not path.is_dir():
                raise FileNotFoundError(f"there is no directory {path}")
            return cls(path, None)
        path = Path(model_name)
        is_path = model_name not in architectures and path.is_dir()
        return cls(path, None) if is_path else None

    def directory(self, cache_dir: str | PathLike | None = None, config_only: bool = False) -> Path:
        from fastclip.models.fetch import fetch_repository

        return self.path or fetch_repository(self.repository, cache_dir, config_only)


def _near(model_name: str) -> str:
    near = get_close_matches(open_clip_name(model_name), architectures, n=4, cutoff=0.5)
    folder, name = os.path.split(model_name)
    if folder and os.path.isdir(folder):
        paths = get_close_matches(name, sorted(os.listdir(folder)), n=4, cutoff=0.5)
        near = [os.path.join(folder, path) for path in paths] + near
    return f"similar names are {', '.join(near)}" if near else "no name is similar"
