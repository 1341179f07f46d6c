"""Published weights and what describes them, brought here once: see `fastclip.hub`."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from fastclip.data.json_file import read_json_object
from fastclip.data.tokenizers.beside_weights import SETTINGS_FILE
from fastclip.data.tokenizers.vocabulary import IDS_FILE, MERGES_FILE, WHOLE_FILE
from fastclip.hub import Check, cached_hub_file, download, has_sha256, hub_file, passes
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.stored_model import (
    OPEN_CLIP_CONFIG,
    PREPROCESSOR,
    PROCESSOR,
    TRANSFORMERS_WEIGHTS_NAMES,
    WEIGHTS_NAMES,
)
from fastclip.models.published import OPENAI, OPENAI_FILES

# What tells whether the tokenizer of a CLIPModel is OpenAI's.
TOKENIZER_FILES = (SETTINGS_FILE, MERGES_FILE, IDS_FILE, WHOLE_FILE)
OPENAI_CACHE = "~/.cache/clip"


def fetch_repository(
    repository: str, cache_dir: str | PathLike | None = None, config_only: bool = False
) -> Path:
    """Bring what `read_stored_model` needs of a repository on the Hugging Face Hub here.

    Args:
        repository: "organisation/name".
        cache_dir: instead of the Hub's own cache, or of ~/.cache/fastclip without its library.
        config_only: leave the weights.

    Returns:
        The directory with the configuration and the weights.

    Raises:
        CheckpointError: nothing could be fetched; the message says how to do without.
    """
    config = _first(repository, (OPEN_CLIP_CONFIG, "config.json"), cache_dir)
    is_open_clip = config.name == OPEN_CLIP_CONFIG
    if not is_open_clip:
        _fetch_tokenizer(repository, config, cache_dir)
    if not config_only:
        _first(repository, WEIGHTS_NAMES if is_open_clip else TRANSFORMERS_WEIGHTS_NAMES, cache_dir)
        if not is_open_clip:
            _fetch_preprocessor(repository, cache_dir)
    return config.parent


def fetch_weights(repository: str, cache_dir: str | PathLike | None = None) -> Path:
    """Bring the weights of a repository of transformers' here.

    Returns:
        The directory with the weights.

    Raises:
        CheckpointError: as `fetch_repository`.
    """
    return _first(repository, TRANSFORMERS_WEIGHTS_NAMES, cache_dir).parent


def fetch_openai(name: str, download_root: str | PathLike | None = None) -> Path:
    """Bring OpenAI's file of a model here, checked against its SHA-256.

    A file that is here is checked each time, and fetched again if it is another: whoever may write
    into the directory could have changed it. That takes about a second for a gigabyte.

    Args:
        name: a key of `OPENAI_FILES`.
        download_root: directory; ~/.cache/clip, OpenAI's own, by default.

    Raises:
        CheckpointError: it could not be fetched, or is damaged.
    """
    checksum, file_name = OPENAI_FILES[name]
    path = Path(download_root or OPENAI_CACHE).expanduser() / file_name
    url = f"{OPENAI}/{checksum}/{file_name}"
    try:
        _bring(url, path, has_sha256(checksum))
    except OSError as error:
        raise CheckpointError(
            f"{name} could not be fetched from {url}: {error}. Put the file at {path}, or give "
            "the path of a file instead of a name"
        ) from error
    return path


def download_pretrained(
    cfg: Mapping[str, Any], prefer_hf_hub: bool = True, cache_dir: str | PathLike | None = None
) -> str:
    """Bring published weights here.

    Args:
        cfg: of `get_pretrained_cfg`.
        prefer_hf_hub: from the Hugging Face Hub, where the weights are there and elsewhere too.
        cache_dir: instead of the Hub's own cache, or of ~/.cache/clip for other addresses.

    Returns:
        The path of the file; empty if `cfg` is.

    Raises:
        CheckpointError: nothing could be fetched.

    Example:
        >>> cfg = fastclip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")
        >>> path = fastclip.download_pretrained(cfg)
    """
    repository, url = cfg.get("hf_hub", ""), cfg.get("url", "")
    if repository and (prefer_hf_hub or not url):
        organisation, name, *file = repository.split("/", 2)
        names = tuple(filter(None, file)) or WEIGHTS_NAMES
        return str(_first(f"{organisation}/{name}", names, cache_dir))
    return download_pretrained_from_url(url, cache_dir) if url else ""


def download_pretrained_from_hf(
    model_id: str,
    filename: str | None = None,
    revision: str | None = None,
    cache_dir: str | PathLike | None = None,
) -> str:
    """Bring one file of a repository on the Hugging Face Hub here, by default its weights.

    Args:
        model_id: "organisation/name".
        filename: in the repository.
        revision: must be None: the main branch.
        cache_dir: instead of the Hub's own cache.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: the file could not be fetched.
        ValueError: `revision` is given.
    """
    if revision is not None:
        raise ValueError(f"revision={revision!r} is not supported: files are of the main branch")
    names = WEIGHTS_NAMES if filename is None else (filename,)
    return str(_first(model_id, names, cache_dir))


def download_pretrained_from_url(url: str, cache_dir: str | PathLike | None = None) -> str:
    """Bring a file here, checked against the SHA-256 that addresses of OpenAI and LAION hold.

    A file that is here is checked as in `fetch_openai`; of other addresses nothing is known.

    Args:
        cache_dir: where it is kept; ~/.cache/clip by default.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: the file could not be fetched, or is damaged.

    Example:
        >>> url = fastclip.get_pretrained_url("RN50-quickgelu", "openai")
        >>> path = fastclip.download_pretrained_from_url(url)
    """
    name = url.rsplit("/", 1)[-1]
    if not name.strip("."):
        raise CheckpointError(f"{url} does not end in the name of a file")
    path = Path(cache_dir or OPENAI_CACHE).expanduser() / name
    check = None
    if "openaipublic" in url:
        check = has_sha256(url.split("/")[-2])
    elif "mlfoundations" in url:
        check = has_sha256(name.rsplit(".", 1)[0].rsplit("-", 1)[-1])
    try:
        _bring(url, path, check)
    except OSError as error:
        raise CheckpointError(f"{url} could not be fetched: {error}") from error
    return str(path)


def _bring(url: str, path: Path, check: Check | None) -> None:
    """Fetch a file unless it is here, and is what it should be."""
    is_here = path.is_file()
    if is_here and passes(path, check):
        return
    try:
        download(url, path, check)
    except OSError as error:
        if is_here:
            raise OSError(f"{error}; and {path} is not what was published") from error
        raise


def _fetch_tokenizer(repository: str, config: Path, cache_dir: str | PathLike | None) -> None:
    """Bring what is there of a CLIPModel's tokenizer; weights alone are of use, too."""
    try:
        is_clip = read_json_object(config).get("model_type") == "clip"
        for name in TOKENIZER_FILES if is_clip else ():
            _fetch(repository, name, cache_dir)
    except ValueError:
        return  # not fetched, or not a configuration: what reads it says so


def _fetch_preprocessor(repository: str, cache_dir: str | PathLike | None) -> None:
    """Bring what says how images are prepared: transformers 4 writes one file, 5 the other."""
    names = PROCESSOR, PREPROCESSOR
    try:
        for name in names:
            _fetch(repository, name, cache_dir)
    except CheckpointError:
        if _first_here(repository, names, cache_dir) is None:
            raise


def _first(repository: str, names: tuple[str, ...], cache_dir: str | PathLike | None) -> Path:
    """The first of `names` that a repository has; that is here, if none can be fetched."""
    try:
        for name in names:
            path = _fetch(repository, name, cache_dir)
            if path is not None:
                return path
    except CheckpointError:
        path = _first_here(repository, names, cache_dir)
        if path is None:
            raise
        return path
    raise CheckpointError(f"{repository} on the Hugging Face Hub has none of {', '.join(names)}")


def _first_here(
    repository: str, names: tuple[str, ...], cache_dir: str | PathLike | None
) -> Path | None:
    """The first of `names` that was fetched earlier.

    Which of them a repository lacks is not known without a connection, so that of its files the
    ones that are here must do.
    """
    found = (cached_hub_file(repository, name, cache_dir) for name in names)
    return next((path for path in found if path is not None), None)


def _fetch(repository: str, name: str, cache_dir: str | PathLike | None) -> Path | None:
    """One file of a repository, or None if it has no such file."""
    try:
        return hub_file(repository, name, cache_dir)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{name} of {repository} could not be fetched: {error}. Without a connection, give a "
            "path: pretrained='/path/to/weights' or the name 'local-dir:/path/to/directory'"
        ) from error
