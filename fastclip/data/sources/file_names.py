"""What the name of a file or of a shard's member says: its sample, and if it is image or caption.

A name ends with a suffix. What precedes the suffix and its dot is the key: `v1.0000.jpg` and
`v1.0000.txt` have the key `v1.0000` and are a pair. `sample_groups.py` says what happens to names
that continue after the key of a pair, such as `0001.seg.png`.
"""

from typing import NamedTuple

# In order of preference; the first four are open_clip's ("jpg;png;jpeg;webp"). The others are
# further suffixes of the formats that `fastclip.data.images` reads.
IMAGE_SUFFIXES = (
    "jpg", "png", "jpeg", "webp", "jpe", "jfif", "mpo", "tif", "tiff", "bmp", "gif", "apng", "avif",
    "jp2", "j2k", "jpx", "jpf", "jpc", "j2c", "ppm", "pgm", "pbm", "pnm",
)  # fmt: skip
CAPTION_SUFFIXES = ("txt",)
MAX_KEYS = 32  # possible keys of a name; some names consist of dots
LONGEST_SUFFIX = 32  # characters; longer suffixes are counted together
SYSTEM_FILES = ("thumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("__MACOSX", "__pycache__")


class Name(NamedTuple):
    key: str  # the path before the suffix; the whole path if `kind` is None
    kind: str | None  # "image", "caption" or None
    suffix: str  # of an image or a caption: in lower case, without the first dot


class Suffixes:
    """The suffixes of images and of captions, in order of preference.

    Upper and lower case are alike. If two suffixes fit a name, the longer one counts.

    Args:
        images: suffixes separated by semicolons, such as "png;jpg" or "seg.png"; by default
            `IMAGE_SUFFIXES`. Images with other suffixes are then not images of samples.
        captions: suffixes of captions in the same form; by default "txt".

    Raises:
        ValueError: a suffix is empty, has a slash, or is both an image's and a caption's.

    Example:
        >>> Suffixes().name("a/v1.0000.JPG")
        Name(key='a/v1.0000', kind='image', suffix='jpg')
    """

    def __init__(self, images: str | None = None, captions: str | None = None) -> None:
        self.images = _listed("image_key", images, IMAGE_SUFFIXES)
        self.captions = _listed("caption_key", captions, CAPTION_SUFFIXES)
        if both := set(self.images) & set(self.captions):
            raise ValueError(f"image_key and caption_key must differ, both have {sorted(both)}")
        kinds = dict.fromkeys(self.images, "image") | dict.fromkeys(self.captions, "caption")
        self._kinds: dict[str, str] = kinds
        self._longest = max(map(len, kinds))

    def name(self, path: str) -> Name:
        """Split the path of a file, with "/" between its folders."""
        dot = path.find(".", max(path.rfind("/") + 2, len(path) - self._longest - 1))
        while dot >= 0:
            suffix = path[dot + 1 :].lower()
            if (kind := self._kinds.get(suffix)) is not None:
                return Name(path[:dot], kind, suffix)
            dot = path.find(".", dot + 1)
        return Name(path, None, "")


def possible_keys(path: str, name: Name) -> list[str]:
    """Return every key that the sample of a file may have, longest first, `MAX_KEYS` at most.

    These are the key of its name, and what precedes each dot in the last part of that key.
    """
    found = [] if name.kind is None else [name.key]
    end, base_start = len(name.key), path.rfind("/") + 1
    while len(found) < MAX_KEYS and (end := path.rfind(".", base_start, end)) > base_start:
        found.append(path[:end])
    return found


def is_ignored(path: str) -> bool:
    """Return whether a file is not data: hidden, or left behind by a system or a library.

    Names that begin with a dot are hidden, and so is everything in folders with such names. Systems
    leave `Thumbs.db`, `desktop.ini` and the contents of `SYSTEM_FOLDERS`; a file `__name__` is
    metadata, as in webdataset. The path of a folder ends with "/".
    """
    *folders, base = path.split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in (*folders, base))
    is_metadata = base.startswith("__") and base.endswith("__")
    is_of_system = any(part in SYSTEM_FOLDERS for part in folders) or base.lower() in SYSTEM_FILES
    return hidden or is_metadata or is_of_system


def suffix_of(path: str) -> str:
    """Return the suffix by which a file is counted: ".npy", "no suffix" or "long suffix"."""
    base = path[path.rfind("/") + 1 :]
    dot = base.rfind(".")
    if dot <= 0:
        return "no suffix"
    return base[dot:].lower() if len(base) - dot <= LONGEST_SUFFIX else "long suffix"


def is_image_name(name: str) -> bool:
    """Return whether the suffix of the name is one of an image."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES and "." in name


def _listed(argument: str, given: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    if given is None:
        return default
    suffixes = tuple(part.strip().lower().removeprefix(".") for part in given.split(";"))
    if any(not suffix or "/" in suffix for suffix in suffixes):
        raise ValueError(
            f"{argument} must be suffixes separated by semicolons, such as 'png;jpg', got {given!r}"
        )
    return suffixes
