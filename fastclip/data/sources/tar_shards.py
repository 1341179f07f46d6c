"""Tar shards: `key.jpg` (jpeg, png, webp) and `key.txt` next to each other, many to a file.

The key is the member's path up to the first dot of its last name; members that follow each other
with the same key are one sample. A position is the offset of a sample's first header, so that a
resumed run seeks and does not read again. Members that are neither picture nor caption are passed
over.
"""

import os
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, NamedTuple

from fastclip.data.sources.samples import IMAGE_SUFFIXES, BadSample, Sample, with_caption
from fastclip.data.sources.shard_names import shard_paths, shard_sizes, stated_length
from fastclip.data.sources.source import END, Entry, Part, Source
from fastclip.data.sources.tar_members import Damage, Member, read_members

CAPTION_SUFFIX = "txt"
MAX_MEMBER_BYTES = 2**28  # no encoded picture is larger; a damaged size might be


class Group(NamedTuple):
    """What is at one position: the members of a sample, damage, or damage and what it left."""

    start: int
    end: int
    image: Member | None
    caption: Member | None
    damage: Damage | None


class TarSource(Source):
    """The shards that `spec` names, one part each; see `shard_names.py`.

    A damaged or truncated shard is one bad sample for each damage, with the good samples before
    and behind it kept. A missing shard is as many bad samples as `sizes.json` says, or one.

    Raises:
        FileNotFoundError: no shard exists.
        ValueError: `spec` is malformed, or `sizes.json` is.
    """

    def __init__(self, spec: str) -> None:
        self._paths = shard_paths(spec)
        self._sizes = shard_sizes(self._paths)
        self._stated_length = stated_length(self._paths) if None in self._sizes else None

    def parts(self) -> list[Part]:
        return [
            Part(path, num_samples=size)
            for path, size in zip(self._paths, self._sizes, strict=True)
        ]

    def num_samples(self) -> int | None:
        """Return the sum of `sizes.json`, else what `__len__` says, else None."""
        return sum(self._sizes) if None not in self._sizes else self._stated_length

    def read(self, part: Part, position: int | None = None) -> Iterator[Entry]:
        position = part.start if position is None else position
        if position == END:
            return
        try:
            with open(part.name, "rb", buffering=2**17) as file:
                for group in group_members(read_members(file, position)):
                    yield Entry(group.start, group.end, partial(_load, file, part.name, group))
                    position = group.end
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            lost = part.num_samples or 1 if position == part.start else 1
            reason = "missing shard" if missing else "unreadable shard"
            bad = BadSample(part.name, reason, str(error), lost)
            yield Entry(position, END, lambda: bad)


def group_members(members: Iterator[Member | Damage]) -> Iterator[Group]:
    """Put members together that make a sample.

    Damage belongs to the incomplete sample before or behind it, which it explains. Between two
    complete ones it stands alone; inside one, where it took nothing that a sample needs, it is
    passed over. What is yielded from any group's `end` on is what follows that group here.
    """
    key, found, damage, lead = None, {}, None, None
    for member in members:
        if isinstance(member, Damage):
            damage = member if damage is None else damage._replace(end=member.end)
            continue
        member_key, suffix = _key_and_suffix(member.name)
        if suffix is None:
            continue
        if member_key != key or suffix in found:
            yield from _closed(found, lead, damage)
            lead = damage if len(found) != 1 else None
            key, found = member_key, {}
        damage = None
        found[suffix] = member
    yield from _closed(found, lead, damage)
    if damage is not None and len(found) != 1:
        yield Group(damage.start, damage.end, None, None, damage)


def _closed(found: dict[str, Member], lead: Damage | None, damage: Damage | None):
    """Yield what the members in `found` make, between the damage before and behind them."""
    if not found:
        return
    image, caption = found.get("image"), found.get("caption")
    start = min(member.start for member in found.values())
    end = max(member.end for member in found.values())
    if len(found) == 2:
        if lead is not None:
            yield Group(lead.start, start, None, None, lead)
        yield Group(start, end, image, caption, None)
    else:
        # Both may have taken a half: they are then one entry, of one lost sample.
        yield Group(
            start if lead is None else lead.start,
            end if damage is None else damage.end,
            image, caption, lead or damage,
        )  # fmt: skip


def _key_and_suffix(name: str) -> tuple[str, str | None]:
    """Return the key, and "image" or "caption"; None for other members."""
    folder, base = os.path.split(name)
    stem, _, suffix = base.partition(".")
    if not stem:
        return name, None
    suffix = suffix.lower()
    kind = "image" if suffix in IMAGE_SUFFIXES else "caption" if suffix == CAPTION_SUFFIX else None
    return os.path.join(folder, stem), kind


def _load(file: BinaryIO, shard: str, group: Group) -> Sample | BadSample:
    member = group.image or group.caption
    if member is None:
        return BadSample(shard, group.damage.reason, f"at byte {group.damage.start}")
    name = _key_and_suffix(member.name)[0].encode(errors="surrogateescape")
    key = f"{shard}/{name.decode(errors='replace')}"
    if group.damage is not None:
        return BadSample(key, group.damage.reason, f"at byte {group.damage.start}")
    if group.image is None or group.caption is None:
        return BadSample(key, "no image" if group.image is None else "no caption")
    try:
        image, caption = _contents(file, group.image), _contents(file, group.caption)
    except OSError as error:
        return BadSample(key, "unreadable shard", str(error))
    if image is None or caption is None:
        return BadSample(key, "member is too large", f"more than {MAX_MEMBER_BYTES} bytes")
    return with_caption(key, image, caption)


def _contents(file: BinaryIO, member: Member) -> bytes | None:
    if member.size > MAX_MEMBER_BYTES:
        return None
    file.seek(member.data)
    return file.read(member.size)
