"""Which members are one sample: the rules one by one, and at random against webdataset's."""

import random
from typing import NamedTuple

import pytest

from fastclip.data.sources import sample_groups
from fastclip.data.sources.file_names import Suffixes, is_ignored, possible_keys
from fastclip.data.sources.sample_groups import group_members
from fastclip.data.sources.tar_members import Damage


class File(NamedTuple):
    name: str


def grouped(names: str | list[str], image_key: str | None = None) -> str:
    """The names of each group joined by +, with the image and the caption that count first."""
    names = names.split() if isinstance(names, str) else names
    shown = []
    for group in group_members(map(File, names), Suffixes(image_key)):
        first = [member for member in (group.image, group.caption) if member]
        rest = [member for member in group.members if member not in first]
        text = "+".join(member.name for member in first + rest)
        shown.append(text if group.is_pair else f"({text})" if group.key else f"[{text}]")
    return " ".join(shown)


@pytest.mark.parametrize(
    "names, expected",
    [
        ("0.jpg 0.txt 1.txt 1.jpg", "0.jpg+0.txt 1.jpg+1.txt"),
        ("v1.0.jpg v1.0.txt v1.1.jpg v1.1.txt", "v1.0.jpg+v1.0.txt v1.1.jpg+v1.1.txt"),
        ("a.b.c.jpg a.b.c.txt a.b.d.txt a.b.d.jpg", "a.b.c.jpg+a.b.c.txt a.b.d.jpg+a.b.d.txt"),
        ("1.2/0.jpg 1.2/0.txt 1.3/0.jpg 1.3/0.txt", "1.2/0.jpg+1.2/0.txt 1.3/0.jpg+1.3/0.txt"),
        ("0.jpg 0.seg.png 0.txt 1.jpg 1.txt", "0.jpg+0.txt+0.seg.png 1.jpg+1.txt"),
        ("0.jpg 0.txt 0.out.json 0.jpg.json", "0.jpg+0.txt+0.out.json+0.jpg.json"),
        ("0.a.png 0.b.png 0.json 0.jpg 0.txt", "0.jpg+0.txt+0.a.png+0.b.png+0.json"),
        ("0.jpg 0.seg.png 0.seg.txt 0.txt", "0.jpg+0.txt+0.seg.png+0.seg.txt"),
        ("v1.jpg v1.txt v1.0.jpg v1.0.txt", "v1.jpg+v1.txt v1.0.jpg+v1.0.txt"),
        ("v1.0.jpg v1.0.txt v1.jpg v1.txt", "v1.0.jpg+v1.0.txt v1.jpg+v1.txt"),
        ("v1.0.jpg v1.1.jpg v1.1.txt v1.jpg v1.txt", "(v1.0.jpg) v1.1.jpg+v1.1.txt v1.jpg+v1.txt"),
        ("v.txt v.0.jpg v.0.txt v.1.jpg v.1.txt", "(v.txt) v.0.jpg+v.0.txt v.1.jpg+v.1.txt"),
        ("0.jpg 0.png 0.txt 1.webp 1.jpeg 1.txt", "0.jpg+0.txt+0.png 1.jpeg+1.txt+1.webp"),
        ("a.jpg a.txt a.jpg a.txt a.png a.txt", "a.jpg+a.txt a.jpg+a.txt a.png+a.txt"),
        ("a.jpg a.jpg a.txt", "(a.jpg) a.jpg+a.txt"),
        ("0.jpg 1.jpg 2.txt 3.jpg 3.txt", "(0.jpg) (1.jpg) (2.txt) 3.jpg+3.txt"),
        ("0.jpg 0.seg.png 0.json 1.json", "(0.jpg+0.seg.png+0.json) [1.json]"),
        ("0.orig.jpg 0.mask.png 0.txt", "(0.txt+0.orig.jpg+0.mask.png)"),
        ("readme 0.npy a.jpg a.txt b.npy", "[readme] [0.npy] a.jpg+a.txt [b.npy]"),
        ("a.JPG a.Txt a.JSON b.TIF b.TXT", "a.JPG+a.Txt+a.JSON b.TIF+b.TXT"),
    ],
)  # fmt: skip
def test_members_are_samples_parts_of_one_or_alone(names, expected):
    assert grouped(names) == expected


def test_a_named_suffix_says_which_image_counts():
    names = "0.jpg 0.seg.png 0.txt v1.0.jpg v1.0.seg.png v1.0.txt"
    expected = "0.seg.png+0.txt+0.jpg v1.0.seg.png+v1.0.txt+v1.0.jpg"
    assert grouped(names, "seg.png") == grouped(names, "seg.png;png") == expected
    assert grouped("0.png 0.seg.png 0.txt", "png;seg.png") == "0.png+0.txt+0.seg.png"


def test_names_that_all_begin_alike_are_not_read_to_the_end_for_one_group():
    read = []
    names = (File(f"v1.{i:05d}.jpg") for i in range(10_000))
    groups = group_members((read.append(f) or f for f in names), Suffixes())
    assert next(groups).key == "v1.00000" and len(read) <= 2 * sample_groups.LOOKAHEAD


@pytest.mark.parametrize("seed", range(40))
def test_every_member_is_in_one_group_and_reading_may_begin_at_any(seed, monkeypatch):
    monkeypatch.setattr(sample_groups, "LOOKAHEAD", 6)
    rng = random.Random(seed)
    suffixes = ["jpg", "txt", "png", "json", "seg.png", "0.jpg", "0.txt", "1.txt", "b.0.jpg"]
    members = [File(f"{rng.choice('ab')}.{rng.choice(suffixes)}") for _ in range(60)]
    for i in rng.sample(range(60), 5):
        members[i] = Damage(i, i + 1, "damage")
    groups = list(group_members(iter(members), Suffixes()))
    assert [member for group in groups for member in group.members] == members
    start = 0
    for i, group in enumerate(groups):
        assert list(group_members(iter(members[start:]), Suffixes())) == groups[i:]
        start += len(group.members)


@pytest.mark.parametrize("seed", range(20))
def test_samples_whose_names_have_a_key_without_dots_are_those_of_webdataset(seed):
    tariterators = pytest.importorskip("webdataset.tariterators")
    rng = random.Random(seed)
    members = []
    for i in range(30):
        suffixes = ["jpg", "txt"]  # pairs only: open_clip leaves out what is none
        parts = ["png", "json", "seg.png", "jpg.json", "out.json", "depth.webp", "cls", "alt.txt"]
        suffixes += rng.sample(parts, rng.randrange(5))
        rng.shuffle(suffixes)
        members += [f"{rng.choice(('', 'v1.0/'))}{i:04d}.{suffix}" for suffix in suffixes[:2]]
        folder = members[-1][: members[-1].rfind("/") + 1]
        members[-2:] = [f"{folder}{i:04d}.{suffix}" for suffix in suffixes]
    fields = ({"fname": name, "data": name, "__url__": ""} for name in members)
    expected = [
        (sample["__key__"], next(sample[s] for s in ("jpg", "png") if s in sample), sample["txt"])
        for sample in tariterators.group_by_keys(fields)
    ]
    groups = list(group_members(map(File, members), Suffixes()))
    assert [(g.key, g.image.name, g.caption.name) for g in groups] == expected


def test_keys_go_from_the_longest_to_the_shortest():
    suffixes = Suffixes()
    for path, keys in (
        ("a.b/c.d.jpg", ["a.b/c.d", "a.b/c"]), ("c.jpg.json", ["c.jpg", "c"]), ("readme", []),
        ("a.tar.gz", ["a.tar", "a"]), ("x.txt", ["x"]),
    ):  # fmt: skip
        assert possible_keys(path, suffixes.name(path)) == keys


def test_what_systems_leave_behind_is_ignored():
    ignored = ("._a.jpg", "a/.git/b.txt", "__MACOSX/a.jpg", "x/Thumbs.db", "DESKTOP.INI", "__len__")
    assert all(map(is_ignored, ignored))
    assert not any(map(is_ignored, ("./a.jpg", "a/../b.jpg", "thumbs.jpg", "__a.jpg", "a.b.jpg")))
