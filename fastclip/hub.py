"""One file of the Hugging Face Hub, or of an address, brought to this machine once.

`huggingface_hub` does it where it is installed: its caches, tokens and settings apply. Else files
come by Python alone into ~/.cache/fastclip, or into $HF_HOME/fastclip if HF_HOME is set. In both
cases HF_ENDPOINT is a mirror to ask instead, and HF_HUB_OFFLINE=1 forbids to ask anybody. What
comes over a connection without encryption could be anybody's: that is said in a warning.

A file is whole or not there: it is written under another name, its length and, where the caller
knows it, its content are checked, and then it is renamed. Processes that fetch the same file at the
same time each rename the same content.
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
# Of a file in a repository, maybe in a folder of it, never outside.
FILE = re.compile(r"(?!.*\.\.)\w[\w.+-]*(/\w[\w.+-]*)*", re.ASCII)
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 2**18
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
SHOWN_FROM = 2**20  # bytes from which on a download shows how far it is

Check = Callable[[Path], None]  # raises a ValueError that says what is wrong with a file


def hub_file(
    repository: str,
    name: str,
    cache_dir: str | PathLike | None = None,
    check: Check | None = None,
) -> Path | None:
    """The path of one file of a repository; it is fetched if it is not here.

    Args:
        repository: "organisation/name".
        name: of the file.
        cache_dir: instead of the cache of the Hub's library, or of ours without the library.
        check: looks at the content. A file that was here and does not pass is fetched again.

    Returns:
        The path, or None if the repository has no such file.

    Raises:
        OSError: it could not be fetched, or what was fetched does not pass.
        ValueError: `repository` cannot be a name on the Hub, or `name` one of a file in it.
    """
    _require_names(repository, name)
    if importlib.util.find_spec("huggingface_hub") is not None:
        warn_of_plain_text(hub_address(repository, name))
        return _by_library(repository, name, cache_dir, check)
    path = cache_directory(cache_dir) / repository / name
    if path.is_file() and passes(path, check):
        return path
    if is_offline():
        raise ConnectionError(f"HF_HUB_OFFLINE is set, and {path} is not here")
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
    """The path of one file of a repository if it is here, else None; nothing is fetched.

    Raises:
        ValueError: as `hub_file`.
    """
    _require_names(repository, name)
    if importlib.util.find_spec("huggingface_hub") is not None:
        from huggingface_hub import try_to_load_from_cache

        # There is a mark, which is no path, for a file that the repository is known to lack.
        found = try_to_load_from_cache(repository, name, cache_dir=cache_dir)
        return Path(found) if isinstance(found, str) else None
    path = cache_directory(cache_dir) / repository / name
    return path if path.is_file() else None


def hub_address(repository: str, name: str) -> str:
    """The address of a file of a repository, on the Hub or on the mirror in HF_ENDPOINT."""
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    return f"{endpoint.rstrip('/')}/{repository}/resolve/main/{name}"


def cache_directory(cache_dir: str | PathLike | None = None) -> Path:
    """Where files lie that were fetched without the Hub's library."""
    home = os.environ.get("HF_HOME")
    return Path(cache_dir or (Path(home, "fastclip") if home else CACHE)).expanduser()


def cached_hub_files(name: str, cache_dir: str | PathLike | None = None) -> Iterator[Path]:
    """Files of this name in any repository in the cache of the Hub's library; none is fetched."""
    home = os.environ.get("HF_HOME") or HUB_HOME
    hub = os.environ.get("HF_HUB_CACHE") or Path(home, "hub")
    for directory in dict.fromkeys([cache_dir or hub, hub]):
        yield from sorted(Path(directory).expanduser().glob(f"models--*/snapshots/*/{name}"))


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids to fetch anything."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def download(url: str, path: Path, check: Check | None = None) -> None:
    """Fetch an address to a path.

    Raises:
        HTTPError: the server refuses.
        OSError: there is no connection, the file was cut off, or `check` objects to it. There is
            no file at `path` then.
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
    """Warn of an address that is asked without encryption, but for one of this machine."""
    if _is_plain_text(url) and urlsplit(url).hostname not in THIS_MACHINE:
        warnings.warn(
            f"{url} is asked without encryption: what comes may be anybody's. Give an address with "
            "https:// (HF_ENDPOINT, if that is set)",
            stacklevel=2,
        )


def has_sha256(checksum: str) -> Check:
    """A check that a file has this SHA-256, in hexadecimal digits; the first of them will do."""

    def check(path: Path) -> None:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if not digest.hexdigest().startswith(checksum):
            raise ValueError(f"its SHA-256 is {digest.hexdigest()}, it must be {checksum}")

    return check


def _stream(url: str, path: Path) -> None:
    from torch.hub import tqdm  # tqdm's if that is installed, else a plain one

    request = Request(url, headers={"User-Agent": "fastclip"})
    received = 0
    try:
        with urlopen(request, timeout=TIMEOUT) as reply, open(path, "xb") as file:
            if _is_plain_text(reply.url) and not _is_plain_text(url):
                raise ConnectionError(f"{url} leads to {reply.url}, which has no encryption")
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
        raise ValueError(f"the name of a file in {repository} must be inside of it, got {name!r}")


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
    except LocalEntryNotFoundError as error:  # not reached, which is also an EntryNotFoundError
        if is_offline():
            raise ConnectionError(
                f"HF_HUB_OFFLINE is set, and {name} of {repository} is not in the Hub's cache"
            ) from error
        raise
    except EntryNotFoundError:
        return None


def passes(path: Path, check: Check | None) -> bool:
    """Whether a file is what `check` expects."""
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
