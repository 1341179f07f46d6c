"""Columns of samples: what JSON has stays as it is, and what it has not is left out and counted."""

import datetime
import decimal
import json

import pytest

from fastclip.data.limits import DEEPEST_JSON
from fastclip.data.sources.sample_columns import (
    MAX_COLUMNS_BYTES,
    MOST_DIGITS,
    as_columns,
    columns_of,
)

pytestmark = pytest.mark.fast


def nested(levels: int, inside: str = "1") -> str:
    return "[" * levels + inside + "]" * levels


@pytest.mark.parametrize(
    ("text", "value", "left_out"),
    [
        ("1.5", 1.5, 0), ("-7", -7, 0), ("null", None, 0), ("true", True, 0), ('"x"', "x", 0),
        ("NaN", None, 0), ("Infinity", None, 1), ("-Infinity", None, 1), ("1e999", None, 1),
        ("-1e999", None, 1), ('{"a": [1, 1e999, NaN]}', {"a": [1, None, None]}, 1),
        ("9" * MOST_DIGITS, int("9" * MOST_DIGITS), 0), ("9" * (MOST_DIGITS + 1), None, 1),
        ("-" + "9" * 5000, None, 1), ("[" + ", ".join(["1e999"] * 3) + "]", [None] * 3, 3),
        (nested(DEEPEST_JSON), json.loads(nested(DEEPEST_JSON)), 0),
        (nested(DEEPEST_JSON + 1), json.loads(nested(DEEPEST_JSON, "null")), 1),
        (nested(500), json.loads(nested(DEEPEST_JSON, "null")), 1),
    ],
)  # fmt: skip
def test_value_of_a_sample(text, value, left_out):
    found = columns_of(f'{{"x": {text}, "other": 3}}'.encode())
    assert found.values == {"x": value, "other": 3} and found.left_out == left_out
    json.dumps(found.values, allow_nan=False)


@pytest.mark.parametrize("text", ["{", "[1]", "1", nested(100_000), "\xff"])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match="JSON"):
        columns_of(text.encode("latin-1"))


def test_more_than_a_sample_may_bring_is_left_out():
    found = as_columns({"a": 1, "text": "x" * MAX_COLUMNS_BYTES, "b": 2})
    assert found == ({"a": 1, "text": None, "b": None}, 2)
    text = b'{"x": [' + b", ".join([b"1"] * 300_000) + b'], "y": "' + b"y" * 80_000 + b'"}'
    assert columns_of(text) == (json.loads(text), 0)


def test_what_json_has_not_is_text():
    values = {"day": datetime.date(2024, 1, 2), "raw": b"\x01", "sum": decimal.Decimal("1.50")}
    assert as_columns(values) == ({"day": "2024-01-02", "raw": "01", "sum": "1.50"}, 0)
    assert as_columns({"pair": (1, {2: b"\xff"})}).values == {"pair": [1, {"2": "ff"}]}
