import gzip
import hashlib
import json

import pytest

from fastclip.data.tokenizers.vocabulary import (
    BYTE_SYMBOLS,
    CLIP_MERGES,
    BytePairVocabulary,
    read_directory,
    read_vocabulary,
)
from tests.support.merges import random_vocabulary

SMALL = random_vocabulary(num_merges=20)
LINES = [" ".join(merge) for merge in SMALL.merges]
IDS = {token: i for i, token in enumerate(SMALL.tokens)}
TEXT = "\n".join(["#version: 0.2", *LINES, ""])
GZIPPED = gzip.compress(TEXT.encode(), mtime=0)  # names of tests are made of it, in each process


def test_byte_symbols_are_256_visible_characters():
    assert sorted(BYTE_SYMBOLS) == list(range(256))
    assert len(set(BYTE_SYMBOLS.values())) == 256
    assert all(symbol.isprintable() and not symbol.isspace() for symbol in BYTE_SYMBOLS.values())
    assert [BYTE_SYMBOLS[byte] for byte in b"!a\x00 \xad"] == ["!", "a", "Ā", "Ġ", "Ń"]


def test_tokens_are_bytes_then_ends_of_words_then_merges():
    small = BytePairVocabulary((("a", "b"), ("ab", "c</w>")))
    assert small.tokens[0] == "!" and small.tokens[256] == "!</w>"
    assert small.tokens[512:] == ("ab", "abc</w>")
    a, b, c = (small.tokens.index(token) for token in ("a", "b", "c</w>"))
    assert small.joined == {(a, b): 512, (512, c): 513}


@pytest.mark.parametrize(
    "merges",
    [
        [("a", "b"), ("a", "b")],
        [("a", "bc")],
        [("ab", "c"), ("a", "b")],
        [("a",)],
        [("a", "b", "c")],
        [("a", "</w>")],
        [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")],
    ],
)
def test_merges_that_do_not_make_something_new_of_what_exists_are_rejected(merges):
    with pytest.raises(ValueError, match=r"merges\[\d\] must join"):
        BytePairVocabulary(tuple(merges))


@pytest.mark.parametrize("name", ["merges.txt", "vocabulary.txt.gz"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_of_merges_is_read_gzipped_or_not(tmp_path, name, newline):
    data = TEXT.replace("\n", newline).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read_vocabulary(tmp_path / name, num_merges=20) == SMALL
    assert read_vocabulary(str(tmp_path / name), num_merges=20) == SMALL


def test_more_lines_than_merges_are_ignored(tmp_path):
    (tmp_path / "merges.txt").write_text(TEXT + "not a merge\n")
    found = read_vocabulary(tmp_path / "merges.txt", num_merges=19)
    assert found.merges == SMALL.merges[:19]


def test_directory_with_merges_is_read_with_and_without_its_ids(tmp_path):
    (tmp_path / "merges.txt").write_text(TEXT)
    assert read_vocabulary(tmp_path, num_merges=20) == SMALL
    (tmp_path / "vocab.json").write_text(json.dumps(IDS | {"<|startoftext|>": len(IDS)}))
    assert read_vocabulary(tmp_path, num_merges=20) == SMALL


@pytest.mark.parametrize("merges", [LINES, [list(merge) for merge in SMALL.merges]])
def test_tokenizer_json_is_read_in_both_spellings(tmp_path, merges):
    content = {"model": {"type": "BPE", "vocab": IDS, "merges": merges}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert read_vocabulary(tmp_path, num_merges=20) == SMALL


def test_directory_with_more_merges_is_rejected_because_its_special_tokens_have_other_ids(tmp_path):
    (tmp_path / "merges.txt").write_text(TEXT)
    with pytest.raises(ValueError, match="must hold 19 merges, got 20"):
        read_vocabulary(tmp_path, num_merges=19)


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer.json"])
def test_directory_with_other_ids_is_rejected(tmp_path, name):
    ids = {token: i + 1 for token, i in IDS.items()}
    if name == "vocab.json":
        (tmp_path / "merges.txt").write_text(TEXT)
        (tmp_path / name).write_text(json.dumps(ids))
    else:
        content = {"model": {"vocab": ids, "merges": LINES}}
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{name} gives token '!' the id 1, .* HFTokenizer"):
        read_vocabulary(tmp_path, num_merges=20)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "first line must hold '#version'"),
        (b"a b\nab c\n", "first line must hold '#version', got 'a b'"),
        (b"\x89PNG\xff", "not a text of merges"),
        (GZIPPED[:-20], "not a text of merges"),
        (GZIPPED[:12] + b"\xff" * 40, "not a text of merges"),
        (gzip.compress(b"\xff\xff", mtime=0), "not a text of merges"),
        (b"#version: 0.2\n", "must hold 20 merges, got 0"),
        ("\n".join(TEXT.split("\n")[:12]).encode(), "must hold 20 merges, got 11"),
        (TEXT.replace(LINES[0], "a photo of a cat").encode(), r"not a list of merges: merges\[0\]"),
        (TEXT.replace(LINES[0], "a bc").encode(), r"not a list of merges: merges\[0\]"),
        (
            "\n".join(["#version: 0.2", *("a" * n + " a" for n in range(1, 21))]).encode(),
            "no merge ends a word",
        ),
    ],
)
def test_file_of_something_else_is_rejected_and_named(tmp_path, data, message):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_vocabulary(tmp_path / "a.txt", num_merges=20)
    assert str(tmp_path / "a.txt") in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not JSON"),
        ("[]", "no model.merges"),
        ('{"model": null}', "no model.merges"),
        ('{"model": {"type": "WordPiece", "vocab": {}}}', "no model.merges"),
        ('{"model": {"vocab": {}, "merges": [1, 2]}}', "not a list of merges"),
        ('{"model": {"vocab": {}, "merges": [["a", ["b"]]]}}', "not a list of merges"),
        ('{"model": {"vocab": {}, "merges": []}}', "must hold 20 merges, got 0"),
        (
            json.dumps({"model": {"vocab": list(IDS), "merges": LINES}}),
            "must give every token an id, got list",
        ),
    ],
)
def test_tokenizer_json_of_something_else_is_rejected_and_named(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_vocabulary(tmp_path, num_merges=20)
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


def test_clips_number_of_merges_is_expected_unless_told_otherwise(tmp_path):
    (tmp_path / "merges.txt").write_text(TEXT)
    with pytest.raises(ValueError, match=f"must hold {CLIP_MERGES} merges, got 20"):
        read_vocabulary(tmp_path)


def test_nothing_at_the_path_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no vocabulary at .*missing"):
        read_vocabulary(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"no merges\.txt and no tokenizer\.json in"):
        read_vocabulary(tmp_path)


def test_gzipped_file_that_grows_without_end_is_refused_with_a_short_message(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"#version: 0.2\n" + bytes(2**25), mtime=0))
    with pytest.raises(ValueError, match=r"more than 16,777,216 bytes"):
        read_vocabulary(path)
    path.write_bytes(gzip.compress(b"#version: 0.2\na " + b"b" * 2**20, mtime=0))
    with pytest.raises(ValueError, match=r"merges\[0\] must join") as caught:
        read_vocabulary(path, num_merges=1)
    assert len(str(caught.value)) < 300


def test_sha256_is_of_the_merges_and_not_of_the_file_that_held_them(tmp_path):
    (tmp_path / "merges.txt").write_text(TEXT)
    assert SMALL.to_text() == TEXT
    assert SMALL.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    other = TEXT.replace("#version: 0.2", "name#version: 0.2").replace("\n", "\r\n")
    (tmp_path / "vocabulary.gz").write_bytes(gzip.compress(f"{other}more lines\r\n".encode()))
    assert read_vocabulary(tmp_path / "vocabulary.gz", num_merges=20).sha256 == SMALL.sha256
    assert BytePairVocabulary(SMALL.merges[:-1]).sha256 != SMALL.sha256


def test_every_file_of_a_directory_that_may_be_read_is_read(tmp_path):
    (tmp_path / "merges.txt").write_text(TEXT)
    other = random_vocabulary(num_merges=20, seed=1)
    ids = {token: i for i, token in enumerate(other.tokens)}
    content = {"model": {"vocab": ids, "merges": list(map(" ".join, other.merges))}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert list(read_directory(tmp_path, num_merges=20)) == [SMALL, other]
    assert read_vocabulary(tmp_path, num_merges=20) == SMALL
