"""Download one file of the Hugging Face Hub, or of a URL, and keep it in a cache.

Where `huggingface_hub` is installed, it does the download: its caches, tokens and settings apply.
Otherwise Python alone downloads into ~/.cache/fastclip, or into $HF_HOME/fastclip if HF_HOME is
set. In both cases HF_ENDPOINT names a mirror to use instead of the Hub, and HF_HUB_OFFLINE=1
forbids all downloads. A URL without encryption is fetched with a warning.

A file is complete or missing: it is written under another name, its length and, where the caller
gives a check, its content are checked, and then it is renamed. Processes that fetch the same file
at the same time each rename the same content.
"""

import hashlib
import http.client
import importlib.util
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

HUB = "https://huggingface.co"
CACHE = "~/.cache/fastclip"
HUB_HOME = "~/.cache/huggingface"
REPOSITORY = re.compile(r"(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
# The name of a file in a repository or in a folder of it, never outside.
FILE = re.compile(r"(?!.*\.\.)\w[\w.+-]*(/\w[\w.+-]*)*", re.ASCII)
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 2**18
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
SHOWN_FROM = 2**20  # downloads of at least so many bytes show a progress bar

Check = Callable[[Path], None]  # raises a ValueError that says what is wrong with a file


def hub_file(
    repository: str,
    name: str,
    cache_dir: str | PathLike | None = None,
    check: Check | None = None,
) -> Path | None:
    """Return the path of one file of a repository; download the file if it is not in the cache.

    Args:
        repository: "organisation/name".
        name: the name of the file.
        cache_dir: used instead of the cache of `huggingface_hub`, or of fastclip's own cache
            without that library.
        check: raises a ValueError for wrong content. A cached file that does not pass is downloaded
            again.

    Returns:
        The path, or None if the repository has no such file.

    Raises:
        OSError: the file could not be downloaded, or the download does not pass `check`.
        ValueError: `repository` cannot be a name on the Hub, or `name` cannot be a file in it.
    """
    _require_names(repository, name)
    if importlib.util.find_spec("huggingface_hub") is not None:
        warn_of_plain_text(hub_address(repository, name))
        return _by_library(repository, name, cache_dir, check)
    path = cache_directory(cache_dir) / repository / name
    if path.is_file() and passes(path, check):
        return path
    if is_offline():
        raise ConnectionError(f"HF_HUB_OFFLINE is set, and {path} does not exist")
    try:
        download(hub_address(repository, name), path, check)
    except HTTPError as error:
        if error.code == 404:
            return None
        raise
    return path


def cached_hub_file(
    repository: str, name: str, cache_dir: str | PathLike | None = None
) -> Path | None:
    """Return the path of one file of a repository if it is cached, else None; download nothing.

    Raises:
        ValueError: as in `hub_file`.
    """
    _require_names(repository, name)
    if importlib.util.find_spec("huggingface_hub") is not None:
        from huggingface_hub import try_to_load_from_cache

        # For a file that the repository is known to lack, the library returns a mark, not a path.
        found = try_to_load_from_cache(repository, name, cache_dir=cache_dir)
        return Path(found) if isinstance(found, str) else None
    path = cache_directory(cache_dir) / repository / name
    return path if path.is_file() else None


def hub_address(repository: str, name: str) -> str:
    """Return the URL of a file of a repository, on the Hub or on the mirror in HF_ENDPOINT."""
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    return f"{endpoint.rstrip('/')}/{repository}/resolve/main/{name}"


def cache_directory(cache_dir: str | PathLike | None = None) -> Path:
    """Return the folder of files that are downloaded without `huggingface_hub`."""
    home = os.environ.get("HF_HOME")
    return Path(cache_dir or (Path(home, "fastclip") if home else CACHE)).expanduser()


def cached_hub_files(name: str, cache_dir: str | PathLike | None = None) -> Iterator[Path]:
    """Yield the files of this name in `huggingface_hub`'s cache, of any repository."""
    home = os.environ.get("HF_HOME") or HUB_HOME
    hub = os.environ.get("HF_HUB_CACHE") or Path(home, "hub")
    for directory in dict.fromkeys([cache_dir or hub, hub]):
        yield from sorted(Path(directory).expanduser().glob(f"models--*/snapshots/*/{name}"))


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids downloads."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def download(url: str, path: Path, check: Check | None = None) -> None:
    """Download a URL to a path.

    Raises:
        HTTPError: the server refuses.
        OSError: there is no connection, the file was cut off, or `check` rejects it. Then nothing
            is written to `path`.
    """
    warn_of_plain_text(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        _stream(url, partial)
        if check is not None:
            _require(check, partial, url)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def warn_of_plain_text(url: str) -> None:
    """Warn about a URL without encryption, unless it is on this machine."""
    if _is_plain_text(url) and urlsplit(url).hostname not in THIS_MACHINE:
        warnings.warn(
            f"{url} is fetched without encryption, so that anybody on the way may change the file. "
            "Give an https:// address (in HF_ENDPOINT, if that is set)",
            stacklevel=2,
        )


def has_sha256(checksum: str) -> Check:
    """Return a check of a file's SHA-256; `checksum` is its first hexadecimal digits or all."""

    def check(path: Path) -> None:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if not digest.hexdigest().startswith(checksum):
            raise ValueError(f"its SHA-256 is {digest.hexdigest()}, but must be {checksum}")

    return check


def _stream(url: str, path: Path) -> None:
    from torch.hub import tqdm  # tqdm if it is installed, else torch's plain bar

    request = Request(url, headers={"User-Agent": "fastclip"})
    received = 0
    try:
        with urlopen(request, timeout=TIMEOUT) as reply, open(path, "xb") as file:
            if _is_plain_text(reply.url) and not _is_plain_text(url):
                raise ConnectionError(f"{url} redirects to {reply.url}, which has no encryption")
            length = reply.headers.get("Content-Length")
            total = None if length is None else int(length)
            is_shown = total is not None and total >= SHOWN_FROM
            with tqdm(total=total, disable=not is_shown, unit="B", unit_scale=True) as bar:
                while chunk := reply.read(CHUNK):
                    file.write(chunk)
                    received += len(chunk)
                    bar.update(len(chunk))
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url} was cut off after {received:,} bytes: {error!r}") from error
    if total is not None and received != total:
        raise ConnectionError(f"{url} was cut off after {received:,} of {total:,} bytes")


def _is_plain_text(url: str) -> bool:
    return urlsplit(url).scheme.lower() != "https"


def _require_names(repository: str, name: str) -> None:
    if not REPOSITORY.fullmatch(repository):
        raise ValueError(f"repository must be 'organisation/name', got {repository!r}")
    if not FILE.fullmatch(name):
        raise ValueError(f"the name of a file must be a path within {repository}, got {name!r}")


def _by_library(
    repository: str, name: str, cache_dir: str | PathLike | None, check: Check | None
) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        path = Path(hf_hub_download(repository, name, cache_dir=cache_dir))
        if not passes(path, check):
            path = Path(hf_hub_download(repository, name, cache_dir=cache_dir, force_download=True))
            _require(check, path, str(path))
        return path
    except LocalEntryNotFoundError as error:  # the Hub was not reached; also an EntryNotFoundError
        if is_offline():
            raise ConnectionError(
                f"HF_HUB_OFFLINE is set, and {name} of {repository} is not in the Hub's cache"
            ) from error
        raise
    except EntryNotFoundError:
        return None


def passes(path: Path, check: Check | None) -> bool:
    """Return whether a file passes `check`."""
    try:
        if check is not None:
            check(path)
    except ValueError:
        return False
    return True


def _require(check: Check, path: Path, name: str) -> None:
    try:
        check(path)
    except ValueError as error:
        raise OSError(f"{name} is not what was published: {error}") from None
