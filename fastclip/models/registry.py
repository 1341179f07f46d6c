"""What a model's name stands for: an architecture, a directory, or a repository.

ViT-B-32                        of `list_models()`: open_clip's names, built in or added
ViT-B/32, ViT-L/14@336px        OpenAI's spellings of the same
local-dir:/path, or a path      a directory with a configuration, and usually weights
my-model.json                   a file with an architecture in open_clip's words, without weights
hf-hub:organisation/name        such a directory on the Hugging Face Hub

What reads and fetches weights is imported where it is used: names are listed without it.
"""

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
    """The names of all architectures, built in or added.

    Example:
        >>> "ViT-B-32" in fastclip.list_models()
        True
    """
    return list(architectures)


def add_model_config(path: str | PathLike) -> None:
    """Add architectures from a JSON file as open_clip's, or from all of a directory.

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
    """The architecture of a name; of the kinds above.

    Args:
        cache_dir: where what comes from a repository is kept, instead of the Hub's own cache.

    Returns:
        A configuration, which also reads as open_clip's dict does.

    Raises:
        ValueError: there is none of that name; near ones are listed.
        FileNotFoundError, CheckpointError: a directory, repository or file holds none.

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
        raise ValueError(f"no model {model_name!r}: {_near(name)}; see list_models()")
    return architectures[name]


def is_configuration_file(model_name: str) -> bool:
    """Whether a name is that of a file with an architecture, by its suffix, ".json"."""
    return model_name.lower().endswith(CONFIGURATION_SUFFIX)


def read_configuration_file(path: str) -> "tuple[ClipConfig, PreprocessCfg | None]":
    """The architecture in a file, and how it says that images are prepared, if it does.

    Args:
        path: of JSON as open_clip's model configurations have it (`embed_dim`, `vision_cfg`,
            `text_cfg`), or as its `open_clip_config.json` has it, beside `preprocess_cfg`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no configuration, or asks for a tower that is not built in.
    """
    from fastclip.models.checkpoints.stored_model import read_open_clip_settings

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model configuration at {path}")
    return read_open_clip_settings(Path(path))


def parse_model_name(model_name: str) -> tuple[str | None, str]:
    """Split a name into "local-dir", "hf-hub" or None, and what comes after the colon.

    Raises:
        ValueError: nothing comes after it.
    """
    for prefix in (LOCAL_DIRECTORY, HUB):
        if model_name.startswith(prefix):
            rest = model_name.removeprefix(prefix)
            if not rest:
                raise ValueError(f"model_name {model_name!r} names nothing after the colon")
            return prefix.removesuffix(":"), rest
    return None, model_name


def open_clip_name(model_name: str) -> str:
    """OpenAI's spelling of a name, in open_clip's."""
    return OPENAI_SPELLINGS.get(model_name, model_name).replace("/", "-")


class Place(NamedTuple):
    """A name that is not of an architecture but of a place: a directory, or a repository."""

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


def _near(name: str) -> str:
    near = get_close_matches(name, architectures, n=4, cutoff=0.5)
    return f"near {', '.join(near)}" if near else "nothing near it"
