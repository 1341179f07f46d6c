"""Fetching published weights and their settings, each file once; see `fastclip.hub`."""

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

# The files that show whether the tokenizer of a CLIPModel is OpenAI's.
TOKENIZER_FILES = (SETTINGS_FILE, MERGES_FILE, IDS_FILE, WHOLE_FILE)
OPENAI_CACHE = "~/.cache/clip"


def fetch_repository(
    repository: str, cache_dir: str | PathLike | None = None, config_only: bool = False
) -> Path:
    """Fetch the files that `read_stored_model` needs from a repository on the Hugging Face Hub.

    Args:
        repository: "organisation/name".
        cache_dir: where files are kept. The default is the cache of huggingface_hub, or
            ~/.cache/fastclip if that library is not installed.
        config_only: do not fetch the weights.

    Returns:
        The directory with the configuration and the weights.

    Raises:
        CheckpointError: nothing could be fetched; the message says how to use local files.
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
    """Fetch the weights in a repository of a transformers model.

    Returns:
        The directory with the weights.

    Raises:
        CheckpointError: as `fetch_repository`.
    """
    return _first(repository, TRANSFORMERS_WEIGHTS_NAMES, cache_dir).parent


def fetch_openai(name: str, download_root: str | PathLike | None = None) -> Path:
    """Fetch OpenAI's file of a model, and check it against its SHA-256.

    A file that was fetched earlier is checked each time, because somebody may have changed it, and
    is fetched again if its checksum differs. The check takes about a second per gigabyte.

    Args:
        name: a key of `OPENAI_FILES`.
        download_root: the directory of the file; ~/.cache/clip, OpenAI's own, by default.

    Raises:
        CheckpointError: the file could not be fetched, or is damaged.
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
    """Fetch published weights.

    Args:
        cfg: the result of `get_pretrained_cfg`.
        prefer_hf_hub: fetch from the Hugging Face Hub if the weights are there and elsewhere too.
        cache_dir: where files are kept, instead of the Hub's own cache, or of ~/.cache/clip for
            other addresses.

    Returns:
        The path of the file; an empty string if `cfg` is empty.

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
    """Fetch one file of a repository on the Hugging Face Hub, by default its weights.

    Args:
        model_id: "organisation/name".
        filename: the name of the file in the repository; by default the weights are looked for.
        revision: must be None, for the main branch.
        cache_dir: where files are kept, instead of the Hub's own cache.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: the file could not be fetched.
        ValueError: `revision` is given.
    """
    if revision is not None:
        raise ValueError(
            f"revision={revision!r} is not supported: files are fetched from the main branch"
        )
    names = WEIGHTS_NAMES if filename is None else (filename,)
    return str(_first(model_id, names, cache_dir))


def download_pretrained_from_url(url: str, cache_dir: str | PathLike | None = None) -> str:
    """Fetch a file, and check it against the SHA-256 in the addresses of OpenAI and LAION.

    A file that was fetched earlier is checked again, as in `fetch_openai`. Files from other
    addresses are not checked.

    Args:
        cache_dir: where the file is kept; ~/.cache/clip by default.

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
        raise CheckpointError(f"the address {url} does not end in the name of a file")
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
    """Fetch a file unless it is at `path` already and passes the check."""
    is_here = path.is_file()
    if is_here and passes(path, check):
        return
    try:
        download(url, path, check)
    except OSError as error:
        if is_here:
            raise OSError(f"{error}; and the file {path} is not the published one") from error
        raise


def _fetch_tokenizer(repository: str, config: Path, cache_dir: str | PathLike | None) -> None:
    """Fetch the files of a CLIPModel's tokenizer that there are; none is required."""
    try:
        is_clip = read_json_object(config).get("model_type") == "clip"
        for name in TOKENIZER_FILES if is_clip else ():
            _fetch(repository, name, cache_dir)
    except ValueError:
        return  # not fetched, or not a configuration: the code that reads it raises


def _fetch_preprocessor(repository: str, cache_dir: str | PathLike | None) -> None:
    """Fetch the settings of preprocessing: transformers 4 writes one file, version 5 the other."""
    names = PROCESSOR, PREPROCESSOR
    try:
        for name in names:
            _fetch(repository, name, cache_dir)
    except CheckpointError:
        if _first_here(repository, names, cache_dir) is None:
            raise


def _first(repository: str, names: tuple[str, ...], cache_dir: str | PathLike | None) -> Path:
    """Fetch the first of `names` that a repository has.

    If nothing can be fetched, return the first of `names` that was fetched earlier.
    """
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
    """Return the first of `names` that was fetched earlier, or None.

    It is used without a connection, when it cannot be known which files the repository has.
    """
    found = (cached_hub_file(repository, name, cache_dir) for name in names)
    return next((path for path in found if path is not None), None)


def _fetch(repository: str, name: str, cache_dir: str | PathLike | None) -> Path | None:
    """Fetch one file of a repository; return None if the repository has no such file."""
    try:
        return hub_file(repository, name, cache_dir)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{name} of {repository} could not be fetched: {error}. Without a connection, give a "
            "path: pretrained='/path/to/weights' or the name 'local-dir:/path/to/directory'"
        ) from error
