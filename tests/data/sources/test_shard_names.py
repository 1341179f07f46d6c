import json
import os
import random

import pytest

from fastclip.data.sources.braces import MAX_NAMES, expand_all
from fastclip.data.sources.shard_names import (
    shard_paths,
    shard_sizes,
    stated_length,
)


@pytest.fixture
def folder(tmp_path):
    for name in ("000.tar", "001.tar", "002.tar", "x.tar"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("a.tar", ["a.tar"]),
        ("{000..003}.tar", ["000.tar", "001.tar", "002.tar", "003.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{098..101}", ["098", "099", "100", "101"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{a,{b,c}}", ["a", "b", "c"]),
        (
            "{a/{0..1},b{,c}/{0,{2..3}}}.x",
            ["a/0.x", "a/1.x", "b/0.x", "b/2.x", "b/3.x", "bc/0.x", "bc/2.x", "bc/3.x"],
        ),
        ("{8..011}", ["008", "009", "010", "011"]),
        ("{0..9..4}", ["0", "4", "8"]),
        ("{b..d}", ["b", "c", "d"]),
        ("x{,-y}", ["x", "x-y"]),
    ],
)
def test_expand_braces_gives_every_choice_in_order(pattern, expected):
    assert expand_all([pattern]) == expected


@pytest.mark.parametrize("seed", range(20))
def test_expand_braces_is_braceexpand_s(seed):
    braceexpand = pytest.importorskip("braceexpand")
    rng = random.Random(seed)

    def pattern(depth):
        kinds = ["a", "b.c", "/", "{0..3}", "{08..11}", "{9..010}", "{1..9..3}", "{a..c}"]
        text = rng.choice(kinds)
        if depth and rng.random() < 0.7:
            inner = ",".join(pattern(depth - 1) for _ in range(rng.randint(2, 3)))
            text += "{" + inner + "}"
        return text + (rng.choice(kinds) if rng.random() < 0.5 else "")

    for _ in range(20):
        text = pattern(3)
        assert expand_all([text]) == list(braceexpand.braceexpand(text)), text


@pytest.mark.parametrize(
    "pattern", ["{0..2", "0..2}", "{}", "{a}", "{3..1}", "", "{a,{b}}", "{a,{b,c}", "a}{b,c}"]
)
def test_expand_braces_malformed_raises_with_the_pattern(pattern):
    with pytest.raises(ValueError, match="shards must"):
        expand_all([pattern])


@pytest.mark.parametrize(
    "pattern",
    ["{0..999999999}.tar", "{0..99}" * 5, "{a,b}" * 5000, "{0..999999}{a,b}", "{a,{0..1000000}}",
     f"{{{'0' * 18}..999999999999999999}}", f"{'x' * 300}{{1..999999}}", "{a," * 5000 + "}" * 5000,
     "{" * 100_000, "}" * 100_000, "{1.." + "9" * 5000 + "}", "a" * 10**6 + "{"],
    ids=lambda pattern: pattern[:20],
)  # fmt: skip
def test_braces_that_mean_too_much_are_refused_before_they_are_expanded(pattern):
    with pytest.raises(ValueError, match="shards must") as caught:
        expand_all([pattern])
    assert len(str(caught.value)) < 1000


def test_the_bound_of_braces_is_for_all_patterns_together():
    half = f"{{1..{MAX_NAMES // 2}}}"
    assert len(expand_all([half, half])) == MAX_NAMES
    with pytest.raises(ValueError, match="at most 1,000,000 names"):
        expand_all([half, half, "a"])


def test_shard_paths_lists_globs_and_braces_are_joined_in_order(folder):
    found = shard_paths(f"{folder}/x.tar::{folder}/0*.tar")
    assert [path.rsplit("/", 1)[1] for path in found] == ["x.tar", "000.tar", "001.tar", "002.tar"]


def test_shard_paths_keeps_a_missing_shard_among_others(folder):
    assert len(shard_paths(f"{folder}/{{000..004}}.tar")) == 5


@pytest.mark.parametrize("name", ["{100..104}.tar", "*.zip"])
def test_shard_paths_none_exists_raises(folder, name):
    with pytest.raises(FileNotFoundError, match="no shard"):
        shard_paths(f"{folder}/{name}")


@pytest.mark.parametrize("spec, said", [
    ("{a,{b,c}}.tar", r"nested braces of .* mean a.tar, b.tar, c.tar of 0 bytes"),
    ("*.tar", r"must not all be empty: a.tar, b.tar, c.tar of 0 bytes"),
])  # fmt: skip
def test_shard_paths_that_are_all_empty_raise(tmp_path, spec, said):
    for name in "abc":
        (tmp_path / f"{name}.tar").touch()
    with pytest.raises(ValueError, match=said):
        shard_paths(f"{tmp_path}/{spec}")
    (tmp_path / "b.tar").write_bytes(b"x")
    assert len(shard_paths(f"{tmp_path}/{spec}")) == 3


def test_shard_paths_repeated_shard_raises(folder):
    with pytest.raises(ValueError, match="must not repeat"):
        shard_paths(f"{folder}/000.tar::{folder}/*.tar")


@pytest.mark.parametrize("spec", ["pipe:cat a.tar", "s3://bucket/a.tar", "a.tar.gz", "b.tgz"])
def test_shard_paths_remote_or_compressed_raises(spec):
    with pytest.raises(ValueError, match="shards must"):
        shard_paths(spec)


def test_shard_sizes_come_from_the_folder_of_each_shard(folder, tmp_path):
    (folder / "sizes.json").write_text(json.dumps({"000.tar": 7, "x.tar": 9}))
    paths = [f"{folder}/{name}" for name in ("x.tar", "001.tar", "000.tar")]
    assert shard_sizes(paths) == [9, None, 7]


@pytest.mark.parametrize(
    "contents", ["[1]", "{", '{"a": "many"}', '{"a": null}', '{"a": -1}', '{"a": 1e999}']
)
def test_shard_sizes_malformed_raises_with_the_path(folder, contents):
    (folder / "sizes.json").write_text(contents)
    with pytest.raises(ValueError, match=r"sizes\.json must"):
        shard_sizes([f"{folder}/000.tar"])


def test_stated_length_is_the_sum_over_folders_and_none_if_one_has_none(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    paths = [f"{folder}/000.tar", f"{folder}/001.tar", f"{other}/a.tar"]
    (folder / "__len__").write_text("120\n")
    assert stated_length(paths) is None
    (other / "__len__").write_text("3")
    assert stated_length(paths) == 123


def test_stated_length_not_a_number_raises(folder):
    (folder / "__len__").write_text("many")
    with pytest.raises(ValueError, match="__len__ must hold a number"):
        stated_length([f"{folder}/000.tar"])


@pytest.mark.parametrize("name", ["a{1}b", "we[i]rd", "a::b", "{0..3}", "st*r", "plain name"])
def test_what_is_there_under_the_name_as_it_stands_is_meant(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    paths = [folder / "0.tar", folder / "1.TAR", folder / "{x}.tar"]
    for path in (*paths, folder / "._0.tar", folder / "notes.txt"):
        path.write_bytes(b"x")
    assert shard_paths(str(folder)) == list(map(str, paths))
    for path in paths:
        assert shard_paths(str(path)) == [str(path)]


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no shard of '{tmp_path}' exists$"):
        shard_paths(str(tmp_path))


def test_a_pattern_that_would_take_minutes_is_refused(folder):
    with pytest.raises(ValueError, match="at most 4,096 characters"):
        shard_paths(f"{folder}/{'[' * 20_000}")


def test_many_names_are_looked_up_in_a_listing_and_not_one_by_one(folder, monkeypatch):
    asked = []
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(path) or exists(path))
    paths = shard_paths(f"{folder}/{{00..99}}{{000..999}}.tar::{folder}/{{000..002}}.tar")
    assert len(paths) == 100_003
    assert len(asked) < 10
