"""JSON beside weights: read, or refused at once with the file's name."""

import pytest

from fastclip.data.json_file import read_json, read_json_object, require_json
from fastclip.data.limits import DEEPEST_JSON, LARGEST_JSON
from fastclip.data.quoting import LONGEST_QUOTE, first_line, named, quoted, some_of
from fastclip.models.registry import add_model_config


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "content, said",
    [
        (nested(200_000), "nested deeper than"),
        (nested(DEEPEST_JSON + 2), "nested deeper than"),
        (" " * (LARGEST_JSON + 1), "more than 8,388,608 bytes"),
        ("{" + "x" * 10_000, "is not JSON"),
        ("9" * 5_000, "is not JSON"),
        ("\udcff", "is not JSON"),
        ("3", "is not a JSON object"),
    ],
)
def test_what_is_no_json_of_a_model_is_refused_in_a_sentence(content, said, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    for read in (read_json_object, add_model_config):
        with pytest.raises(ValueError, match=said) as caught:
            read(path)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 400


def test_what_is_deep_enough_is_read(tmp_path):
    (tmp_path / "x.json").write_text(nested(DEEPEST_JSON))
    assert isinstance(read_json(tmp_path / "x.json"), list)
    require_json({"a": [1, 2.5, None, "x", (True,)]})


def test_foreign_text_is_a_printable_part_of_a_line():
    deep = value = []
    for _ in range(50):
        value.append([])
        value = value[0]
    for foreign in ("x" * 10**6, "\x1b[31m\n" * 100, deep, 10**4000, {i: i for i in range(9999)}):
        for text in (quoted(foreign), named(foreign), first_line(ValueError(foreign))):
            assert len(text) <= LONGEST_QUOTE and text.isprintable()
    assert named("a.b") == "a.b" and quoted("a") == "'a'"
    assert some_of(["a", "b\n", "c"], 2) == r"a, b\n, and 1 more"
    assert first_line(KeyError()) == "KeyError"
