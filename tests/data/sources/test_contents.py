"""Contents of sources: the same wherever the data is, and others where the data is another one."""

import os
import pickle
import shutil

import pytest

from fastclip.data.digits.source import DigitSource, LoneDigitSource
from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.class_folder import ClassFolderSource
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.hugging_face import HuggingFaceSource
from fastclip.data.sources.synthetic import SyntheticSource
from fastclip.data.sources.tar_shards import TarSource
from tests.data.sources.test_indexed_sources import FakeDataset
from tests.support.pair_files import image_bytes, to_pixels, to_tokens, write_shards


@pytest.fixture
def data(tmp_path):
    """Shards, a table, a folder of pairs and one of classes."""
    root = tmp_path / "data"
    for name in ("shards", "pairs/deep", "classes/cat", "classes/dog"):
        (root / name).mkdir(parents=True)
    write_shards(root / "shards", [3, 2])
    for name in ("pairs/0", "pairs/deep/1", "classes/cat/0", "classes/dog/1"):
        (root / f"{name}.jpg").write_bytes(image_bytes(1))
    for name in ("pairs/0", "pairs/deep/1"):
        (root / f"{name}.txt").write_text("a caption")
    (root / "pairs.csv").write_text("filepath\ttitle\n0.jpg\ta\n1.jpg\tb\n")
    return root


OPENED = {
    "shards": lambda root: TarSource(f"{root}/shards/*.tar"),
    "table": lambda root: CsvSource(root / "pairs.csv"),
    "pairs": lambda root: FolderSource(root / "pairs"),
    "classes": lambda root: ClassFolderSource(root / "classes"),
}


@pytest.mark.parametrize("kind", OPENED)
def test_a_copy_elsewhere_has_the_same_contents_of_plain_strings(kind, data, tmp_path):
    before = OPENED[kind](data).contents()
    shutil.copytree(data, tmp_path / "copy")
    assert OPENED[kind](tmp_path / "copy").contents() == before
    assert {type(text) for pair in before for text in pair} == {str}


@pytest.mark.parametrize(
    "kind, path, content",
    [
        ("shards", "shards/001.tar", None),
        ("table", "pairs.csv", b"filepath\ttitle\n0.jpg\ta\n1.jpg\tc\n"),
        ("pairs", "pairs/deep/1.txt", b"o caption"),  # as many bytes
        ("pairs", "pairs/new.txt", b"a caption"),
        ("classes", "classes/cat/0.jpg", b"another one"),
    ],
)
def test_a_change_that_keeps_names_and_numbers_is_seen(kind, path, content, data):
    before = OPENED[kind](data).contents()
    changed = data / path
    if content is None:  # of as many bytes
        shard = changed.read_bytes()
        content = shard.replace(b"pair ", b"pear ")
        assert len(content) == len(shard) and content != shard
    changed.write_bytes(content)
    after = OPENED[kind](data).contents()
    assert [name for name, _ in after] == [name for name, _ in before]
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_shards_are_known_by_sizes_json_too_and_may_be_missing_or_no_files(data):
    before = TarSource(f"{data}/shards/{{000..002}}.tar").contents()
    assert before[-1] == ("002.tar", "no file")
    os.mkfifo(data / "shards" / "002.tar")
    assert TarSource(f"{data}/shards/{{000..002}}.tar").contents() == before
    (data / "shards" / "sizes.json").write_text('{"000.tar": 3}')
    after = TarSource(f"{data}/shards/{{000..002}}.tar").contents()
    assert after[2][1] == before[2][1] + ", 3 samples" and after[3:] == before[3:]


def test_columns_separators_and_suffixes_are_contents(data):
    tab = CsvSource(data / "pairs.csv").contents()
    assert CsvSource(data / "pairs.csv", caption_key="filepath").contents() != tab
    assert CsvSource(data / "pairs.csv", separator="\\t").contents() == tab
    jpg = TarSource(str(data / "shards"), image_key="jpg").contents()
    assert TarSource(str(data / "shards")).contents() != jpg


def test_rows_of_hugging_face_are_known_by_the_librarys_fingerprint():
    rows = [(b"", "a"), (b"", "b")]
    first, same, other = (FakeDataset(rows) for _ in range(3))
    first._fingerprint = same._fingerprint = "1f"
    other._fingerprint = "2e"
    one, two, three = (HuggingFaceSource(d).contents() for d in (first, same, other))
    assert one == two != three
    first.cast_column = lambda name, column: FakeDataset(rows)
    assert HuggingFaceSource(first).undecoded(None).contents() == one


def test_made_data_is_known_by_what_it_is_made_of():
    made = [
        DigitSource(num_samples=64), DigitSource(held_out=True, num_samples=64),
        DigitSource(num_samples=64, seed=1), SyntheticSource(64, 4), SyntheticSource(64, (4, 8)),
        SyntheticSource(64, 4, seed=1), LoneDigitSource(), LoneDigitSource(seed=1),
    ]  # fmt: skip
    contents = [repr(source.contents()) for source in made]
    assert len(set(contents)) == len(contents)
    assert repr(pickle.loads(pickle.dumps(made[0])).contents()) == contents[0]


def test_a_state_of_other_content_under_the_same_names_raises(data):
    def loader():
        return PairLoader(TarSource(f"{data}/shards/*.tar"), to_pixels, to_tokens, batch_size=1)

    state = loader().state_dict()
    shard = data / "shards" / "000.tar"
    shard.write_bytes(shard.read_bytes().replace(b"pair ", b"pear "))
    with pytest.raises(ValueError, match="the same data: it was saved with"):
        loader().load_state_dict(state)
    del state["settings"]["data"]  # as older states are
    loader().load_state_dict(state)


def test_contents_are_read_once_and_not_where_nothing_is_saved(data, monkeypatch):
    source = TarSource(f"{data}/shards/*.tar")
    calls = []
    monkeypatch.setattr(TarSource, "contents", lambda self: calls.append(1) or [("a", "b")])
    loader = PairLoader(source, to_pixels, to_tokens, batch_size=1)
    assert calls == []
    assert loader.state_dict() == loader.state_dict() and calls == [1]
