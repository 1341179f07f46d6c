"""Decides which members that follow each other form one sample.

1. An image and a caption with the same key (see `file_names.py`) are a pair.
2. A member whose name continues after the key of a pair and a dot, and that follows or precedes
   the pair without another pair in between, is part of that sample: `0001.seg.png`,
   `0001.output.json` and `0001.jpg.json` are parts of the sample `0001`. In these examples `0001`
   is also webdataset's key: the name up to its first dot.
3. If such members form a pair of their own after a complete one (`v1.jpg`, `v1.txt`, then
   `v1.0000.jpg`, `v1.0000.txt`), they are a sample of their own. webdataset would make one sample
   `v1` of them, with fields `0000.jpg` and `0000.txt` that nobody reads.
4. If a sample has several images, the first in the order of preference counts; likewise captions.
5. If the same name comes again, another sample begins.
6. Half a pair is an incomplete sample, together with the members whose names continue after its
   key. Any other member belongs to no sample.

A group depends only on the members from its first one on, so that reading may begin at the start of
any group. A sample has at most `LOOKAHEAD` members.

Damage (of a tar file) belongs to the incomplete sample before or after it, which it explains.
Between two complete samples it stands alone. Inside a complete sample it is ignored, because it
took nothing that the pair needs.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from fastclip.data.sources.file_names import Name, Suffixes, possible_keys
from fastclip.data.sources.tar_members import Damage

LOOKAHEAD = 128  # members of a sample; all names of a shard may begin alike


class Named(Protocol):
    name: str


class Group(NamedTuple):
    """A sample, an incomplete sample, damage, or a member of no sample (`key` is None).

    `image` and `caption` are the members that count; `members` are all, damage included.
    """

    key: str | None
    image: Any | None
    caption: Any | None
    members: list[Any]

    @property
    def is_pair(self) -> bool:
        return self.image is not None and self.caption is not None

    @property
    def damage(self) -> Damage | None:
        return next((m for m in self.members if isinstance(m, Damage)), None)


def group_members(members: Iterator[Named | Damage], suffixes: Suffixes) -> Iterator[Group]:
    """Yield the groups of members, in order; every member is in one group."""
    window = _Window(members, suffixes)
    while window.has(0):
        group = _damage_and_more(window) if window.is_damage(0) else _group_at(window, 0)
        yield group
        window.drop(len(group.members))


class _Window:
    """The members ahead, which are read only as far as they are needed."""

    def __init__(self, members: Iterator[Named | Damage], suffixes: Suffixes) -> None:
        self._members, self.suffixes = members, suffixes
        self._ahead: list[tuple[Named | Damage, Name | None]] = []
        self._dropped = 0
        self._pairs: dict[int, tuple[str, int] | None] = {}  # both counted from the first member

    def has(self, index: int) -> bool:
        while len(self._ahead) <= index:
            member = next(self._members, None)
            if member is None:
                return False
            is_damage = isinstance(member, Damage)
            self._ahead.append((member, None if is_damage else self.suffixes.name(member.name)))
        return True

    def member(self, index: int) -> Named | Damage:
        return self._ahead[index][0]

    def members(self, stop: int) -> list[Named | Damage]:
        return [member for member, _ in self._ahead[:stop]]

    def name(self, index: int) -> Name:
        return self._ahead[index][1]

    def is_damage(self, index: int) -> bool:
        return self._ahead[index][1] is None

    def belongs(self, index: int, key: str) -> bool:
        return self._ahead[index][0].name.startswith(key + ".")

    def keys(self, index: int) -> list[str]:
        return possible_keys(self._ahead[index][0].name, self._ahead[index][1])

    def pair(self, index: int) -> tuple[str, int] | None:
        """Return the key of the pair that begins at `index`, and where it is complete; or None."""
        number = self._dropped + index
        if number not in self._pairs:
            found = _pair_at(self, index)
            self._pairs[number] = found and (found[0], self._dropped + found[1])
        found = self._pairs[number]
        return found and (found[0], found[1] - self._dropped)

    def drop(self, count: int) -> None:
        del self._ahead[:count]
        for number in range(self._dropped, self._dropped + count):
            self._pairs.pop(number, None)
        self._dropped += count


def _pair_at(window: _Window, index: int) -> tuple[str, int] | None:
    for key in window.keys(index):
        kinds, seen, inner = set(), set(), {}
        for i in range(index, index + LOOKAHEAD):
            if not window.has(i):
                break
            if window.is_damage(i):
                continue
            if not window.belongs(i, key):
                break
            name = window.name(i)
            if name.kind is None:
                continue
            if name.key == key:
                if name.suffix in seen:
                    break
                seen.add(name.suffix)
                kinds.add(name.kind)
                if len(kinds) == 2:
                    return key, i + 1
            elif not seen:
                # Only half a pair may precede the sample it is part of; a pair is a sample itself.
                found = inner.setdefault(name.key, set())
                found.add(name.kind)
                if len(found) == 2:
                    break
    return None


def _group_at(window: _Window, start: int) -> Group:
    """Return the group that begins with the member at `start`, after `start` damages."""
    pair = window.pair(start)
    if pair is not None:
        key, stop = pair
        return _group(window, key, _end_of_sample(window, key, start, stop))
    for key in reversed(window.keys(start)):
        stop = _end_of_sample(window, key, start, start + 1)
        if any(_is_half(window, i, key) for i in range(start, stop)):
            while window.has(stop) and window.is_damage(stop):
                stop += 1
            return _group(window, key, stop)
    return Group(None, None, None, window.members(start + 1))


def _end_of_sample(window: _Window, key: str, start: int, stop: int) -> int:
    """Return where a sample ends that reaches at least from `start` to `stop`."""
    seen = None
    for i in range(stop, start + LOOKAHEAD):
        if not window.has(i):
            break
        if window.is_damage(i):
            continue
        if not window.belongs(i, key) or window.pair(i) is not None:
            break
        if seen is None:
            seen = {window.name(j).suffix for j in range(start, stop) if _is_half(window, j, key)}
        if _is_half(window, i, key):
            if window.name(i).suffix in seen:
                break
            seen.add(window.name(i).suffix)
        stop = i + 1
    return stop


def _is_half(window: _Window, index: int, key: str) -> bool:
    """Whether the member is the image or the caption of the sample with this key."""
    if window.is_damage(index):
        return False
    name = window.name(index)
    return name.kind is not None and name.key == key


def _group(window: _Window, key: str, stop: int) -> Group:
    found = {
        window.name(i).suffix: window.member(i) for i in range(stop) if _is_half(window, i, key)
    }
    image, caption = (
        next((found[suffix] for suffix in preferred if suffix in found), None)
        for preferred in (window.suffixes.images, window.suffixes.captions)
    )
    return Group(key, image, caption, window.members(stop))


def _damage_and_more(window: _Window) -> Group:
    """Return damage, together with the incomplete sample after it if there is one."""
    count = 0
    while window.has(count) and window.is_damage(count):
        count += 1
    alone = Group(None, None, None, window.members(count))
    if not window.has(count):
        return alone
    following = _group_at(window, count)
    return alone if following.is_pair or following.key is None else following
