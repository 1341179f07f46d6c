"""What the name of a file or of a shard's member says: image, caption or neither; of which sample.

A name ends with a suffix. What precedes the suffix and its dot is the key: `v1.0000.jpg` and
`v1.0000.txt` have the key `v1.0000` and are a pair. `sample_groups.py` says what becomes of names
that go on after the key of a pair, such as `0001.seg.png`.
"""

from typing import NamedTuple

# In order of preference, of which open_clip has the first four ("jpg;png;jpeg;webp"). The others
# are the names of what `fastclip.data.images` reads.
IMAGE_SUFFIXES = (
    "jpg", "png", "jpeg", "webp", "jpe", "jfif", "mpo", "tif", "tiff", "bmp", "gif", "apng", "avif",
    "jp2", "j2k", "jpx", "jpf", "jpc", "j2c", "ppm", "pgm", "pbm", "pnm",
)  # fmt: skip
CAPTION_SUFFIXES = ("txt",)
MAX_KEYS = 32  # that a name may have, of which some are made of dots
LONGEST_SUFFIX = 32  # characters of one that is counted by its name
SYSTEM_FILES = ("thumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("__MACOSX", "__pycache__")


class Name(NamedTuple):
    key: str  # the path before the suffix; all of the path where the suffix is neither
    kind: str | None  # "image", "caption" or None
    suffix: str  # of an image or a caption: in lower case, without the first dot


class Suffixes:
    """Which suffixes are those of images and of captions, in order of preference.

    Upper and lower case are alike. Of two suffixes that fit a name, the longer one counts.

    Args:
        images: suffixes with semicolons between, such as "png;jpg" or "seg.png"; by default
            `IMAGE_SUFFIXES`. Other images are then no images of samples.
        captions: likewise; by default "txt".

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

    Those are the key of its name, and what of it precedes each dot in its last part.
    """
    found = [] if name.kind is None else [name.key]
    end, base_start = len(name.key), path.rfind("/") + 1
    while len(found) < MAX_KEYS and (end := path.rfind(".", base_start, end)) > base_start:
        found.append(path[:end])
    return found


def is_ignored(path: str) -> bool:
    """Is the file none of the data's: hidden, or what a system or a library leaves behind?

    Hidden are names that begin with a dot, and everything in folders of such names. Systems leave
    `Thumbs.db` and `desktop.ini`, and what is in `SYSTEM_FOLDERS`; a file `__name__` is metadata,
    as in webdataset. The path of a folder ends with "/".
    """
    *folders, base = path.split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in (*folders, base))
    is_metadata = base.startswith("__") and base.endswith("__")
    is_of_system = any(part in SYSTEM_FOLDERS for part in folders) or base.lower() in SYSTEM_FILES
    return hidden or is_metadata or is_of_system


def suffix_of(path: str) -> str:
    """Return what to call a kind of files: ".npy", "no suffix" or "long suffix"."""
    base = path[path.rfind("/") + 1 :]
    dot = base.rfind(".")
    if dot <= 0:
        return "no suffix"
    return base[dot:].lower() if len(base) - dot <= LONGEST_SUFFIX else "long suffix"


def is_image_name(name: str) -> bool:
    """Does the suffix say that this is an image?"""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES and "." in name


def _listed(argument: str, given: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    if given is None:
        return default
    suffixes = tuple(part.strip().lower().removeprefix(".") for part in given.split(";"))
    if any(not suffix or "/" in suffix for suffix in suffixes):
        raise ValueError(
            f"{argument} must be suffixes with semicolons between, such as 'png;jpg', got {given!r}"
        )
    return suffixes
