"""Tar shards: files that hold many pairs of `key.jpg` and `key.txt`, one after the other.

`sample_groups.py` says which members are one sample, and `file_names.py` which are images. A
position is the offset of a sample's first header, so that a resumed run seeks instead of reading
again. Folders and names that `is_ignored` are ignored; every other member is part of a sample, or
is counted as a file that belongs to no sample.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from fastclip.data.quoting import cut
from fastclip.data.regular_file import open_regular
from fastclip.data.sources.file_marks import marks_of_shards
from fastclip.data.sources.file_names import Suffixes, is_ignored, suffix_of
from fastclip.data.sources.folder_files import list_folder
from fastclip.data.sources.sample_columns import MAX_COLUMNS_BYTES, columns_of
from fastclip.data.sources.sample_groups import Group, group_members
from fastclip.data.sources.samples import (
    NO_CAPTION,
    BadSample,
    Sample,
    even_alone,
    with_caption_of,
)
from fastclip.data.sources.shard_names import (
    SIZES,
    is_shard_name,
    shard_paths,
    shard_sizes,
    stated_length,
)
from fastclip.data.sources.source import END, Contents, Entry, Part, Source
from fastclip.data.sources.tar_members import Damage, Member, read_members

MAX_MEMBER_BYTES = 2**28  # no encoded image is larger; a damaged size might be
NUM_TRIED = 8  # shards that are opened to estimate how many samples a lost shard holds
NUM_NAMED = 5  # members of an incomplete sample that a message names


class TarSource(Source):
    """The shards that `spec` names, one part each; see `shard_names.py`.

    Each damage of a damaged or truncated shard counts as one bad sample; the good samples before
    and after it are kept. A shard that is missing or cannot be read counts as many bad samples as
    it should still hold: by `sizes.json`, or by its last reading, or by the mean of other shards.

    Args:
        spec: names of shards, or a folder, whose shards are read and whose other files are counted
            in `skipped`.
        image_key, caption_key: suffixes, see `file_names.Suffixes`.
        lone_images: accept images without a caption, or with an empty one, as samples, unless there
            is damage next to them.
        columns: give samples the values of the member `key.json`, as img2dataset writes it.

    Raises:
        FileNotFoundError: no shard exists.
        ValueError: `spec` or `sizes.json` is malformed, all shards are empty, or a key is not a
            suffix.
    """

    def __init__(
        self,
        spec: str,
        image_key: str | None = None,
        caption_key: str | None = None,
        lone_images: bool = False,
        columns: bool = False,
    ) -> None:
        self._lone_images, self._columns = lone_images, columns
        self._suffixes = Suffixes(image_key, caption_key)
        self._skipped = _others_in(spec) if os.path.isdir(spec) else {}
        self._paths = shard_paths(spec)
        self._sizes = shard_sizes(self._paths)
        self._stated_length = stated_length(self._paths) if None in self._sizes else None
        # Samples of each shard: as stated, or as counted when this process read it to its end.
        self._counts = {
            p: n for p, n in zip(self._paths, self._sizes, strict=True) if n is not None
        }

    def parts(self) -> list[Part]:
        return [
            Part(path, num_samples=size)
            for path, size in zip(self._paths, self._sizes, strict=True)
        ]

    def num_samples(self) -> int | None:
        """Return the sum of `sizes.json`, or else the number in `__len__`, or else None."""
        return sum(self._sizes) if None not in self._sizes else self._stated_length

    def skipped(self) -> dict[str, int]:
        return dict(self._skipped)

    def contents(self) -> Contents:
        """Return the marks of all shards, with their sizes in `sizes.json`, and the suffixes."""
        keys = [
            ("suffixes of images", ";".join(self._suffixes.images)),
            ("suffixes of captions", ";".join(self._suffixes.captions)),
        ]
        marks = marks_of_shards(self._paths)
        return keys + [
            (os.path.basename(path), mark if size is None else f"{mark}, {size:,} samples")
            for path, mark, size in zip(self._paths, marks, self._sizes, strict=True)
        ]

    def read(self, part: Part, position: int | None = None) -> Iterator[Entry]:
        position = part.start if position is None else position
        if position == END:
            return
        is_whole, num_read = position == part.start, 0
        try:
            with open_regular(part.name, buffering=2**17) as file:
                for group in self._groups(file, position):
                    start, position = group.members[0].start, group.members[-1].end
                    yield Entry(start, position, partial(self._load, file, part.name, group))
                    num_read += _is_sample(group)
            if is_whole:
                self._counts.setdefault(part.name, num_read)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            lost = max(1, self._count_of(part.name) - num_read)
            reason = "missing shard" if missing else "unreadable shard"
            bad = BadSample(part.name, reason, str(error), lost)
            yield Entry(position, END, lambda: bad)

    def _load(self, file: BinaryIO, shard: str, group: Group) -> Sample | BadSample:
        found = _load(file, shard, group, self._lone_images)
        if not self._columns or isinstance(found, BadSample):
            return found
        name = f"{group.key}.json"
        member = next((m for m in group.members if isinstance(m, Member) and m.name == name), None)
        if member is None or member.kind != "file":
            return found
        if member.size > MAX_COLUMNS_BYTES:
            return BadSample(found.key, "json is too large", f"more than {MAX_COLUMNS_BYTES} bytes")
        try:
            columns = columns_of(_contents(file, member) or b"")
        except (OSError, ValueError) as error:
            return BadSample(found.key, "unreadable json", str(error))
        return found._replace(columns=columns.values, left_out=columns.left_out)

    def _groups(self, file: BinaryIO, position: int) -> Iterator[Group]:
        members = (m for m in read_members(file, position) if not _is_ignored(m))
        return group_members(members, self._suffixes)

    def _count_of(self, lost: str) -> int:
        """Return the samples of a lost shard: known, or else the mean of other shards."""
        if lost in self._counts:
            return self._counts[lost]
        if not self._counts:
            self._count_another(lost)
        return round(sum(self._counts.values()) / max(1, len(self._counts)))

    def _count_another(self, lost: str) -> None:
        """Count the samples of another shard: the first that can be read, of a few."""
        for path in [path for path in self._paths if path != lost][:NUM_TRIED]:
            with contextlib.suppress(OSError), open_regular(path, buffering=2**17) as file:
                self._counts[path] = sum(map(_is_sample, self._groups(file, 0)))
                return


def _others_in(folder: str) -> Counter[str]:
    """Count the files of a folder that are neither shards nor metadata of shards."""
    others = [name for name in list_folder(folder).files if name != SIZES]
    return Counter(
        "shard in a folder below" if name.lower().endswith(".tar") else suffix_of(name)
        for name in others
        if "/" in name or not is_shard_name(name)
    )


def _is_sample(group: Group) -> bool:
    """Return whether a group counts as a sample; damage does, other members of no sample do not."""
    return group.key is not None or group.damage is not None


def _is_ignored(member: Member | Damage) -> bool:
    return isinstance(member, Member) and (member.kind == "folder" or is_ignored(member.name))


def _load(file: BinaryIO, shard: str, group: Group, lone_images: bool) -> Sample | BadSample:
    damage = group.damage
    if not _is_sample(group):
        (member,) = group.members
        return BadSample(f"{shard}/{_shown(member.name)}", suffix_of(member.name), lost=0)
    key = shard if group.key is None else f"{shard}/{_shown(group.key)}"
    if not group.is_pair:
        if damage is not None:
            return BadSample(key, damage.reason, f"at byte {damage.start}")
        if group.image is None or not lone_images:
            reason = "no image" if group.image is None else NO_CAPTION
            return BadSample(key, reason, _named(group))
    for member in (group.image, group.caption):
        if member is not None and member.kind != "file":
            return BadSample(key, "member is a link or not a regular file", _shown(member.name))
    try:
        image = _contents(file, group.image)
        caption = b"" if group.caption is None else _contents(file, group.caption)
    except OSError as error:
        return BadSample(key, "unreadable shard", str(error))
    if image is None or caption is None:
        return BadSample(key, "member is too large", f"more than {MAX_MEMBER_BYTES} bytes")
    name = "" if group.caption is None else _shown(group.caption.name)
    found = with_caption_of(key, image, name, caption)
    return even_alone(found, image) if lone_images else found


def _contents(file: BinaryIO, member: Member) -> bytes | None:
    if member.size > MAX_MEMBER_BYTES:
        return None
    file.seek(member.data)
    return file.read(member.size)


def _named(group: Group) -> str:
    names = [_shown(os.path.basename(member.name)) for member in group.members[:NUM_NAMED]]
    more = ", ..." if len(group.members) > NUM_NAMED else ""
    return f"its members are {', '.join(names)}{more}"


def _shown(name: str) -> str:
    """Return the name with bytes that are not UTF-8 replaced, and cut if it is long."""
    return cut(name).encode(errors="surrogateescape").decode(errors="replace")
