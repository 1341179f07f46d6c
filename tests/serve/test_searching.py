"""The server's own endpoint: lines as people type them, parts with weights, what stands out."""

import base64

import pytest

from fastclip.search.query import QueryError, parse_words
from fastclip.serve.words import split_words
from tests.support.asgi import post
from tests.support.pair_files import image_bytes


def test_parts_are_understood_and_results_say_what_chance_gives(app):
    image = base64.b64encode(image_bytes(9)).decode()
    parts = [{"row": 7, "weight": 0.5}, {"image": image, "weight": -1}]
    answer = post(app, "/search", {"q": "number 5 + 2:number 6", "parts": parts, "top": 121})
    found = answer.json
    assert [(p["kind"], p["value"], p["weight"]) for p in found["parts"]] == [
        ("text", "number 5", 1.0), ("text", "number 6", 2.0), ("row", 7, 0.5), ("image", None, -1.0)
    ]  # fmt: skip
    rows = [result["id"] for result in found["results"]]
    assert rows[:3] == [6, 5, 120] and 7 not in rows and rows[-1] == 9
    assert found["images"][0] == "image/6" and found["over"] == "images"
    assert found["headline"] == "3 results stand out from chance" and found["judged_by"] == "normal"
    first = found["results"][0]
    assert first["z"] > 5 and first["expected_chance_hits"] < 1e-3 and first["stands_out"] is True


def test_a_search_without_a_match_says_so(app):
    everything = post(app, "/search", {"parts": [{"row": row} for row in range(20)]}).json
    assert everything["headline"] == "nothing stands out from chance"
    assert not any(result["stands_out"] for result in everything["results"])
    flat = post(app, "/search", {"q": "number 127"}).json  # at a right angle to all
    assert flat["judged_by"] is None and flat["headline"].startswith("scores cannot be calibrated")


def test_texts_duplicates_and_a_least_z(app):
    texts = post(app, "/search", {"q": "number 6", "over": "texts", "top": 2}).json
    assert [result["id"] for result in texts["results"]] == [5, 120]
    assert texts["results"][1]["caption"] == "<script>alert(1)</script> 6"
    once = post(app, "/search", {"q": "number 5", "top": 1, "dedup": True}).json["results"]
    assert once[0]["alike"] == 2
    assert post(app, "/search", {"q": "number 5", "min_z": 99}).json["results"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "a query must have 1 to 32 parts, got 0"),
        ({"parts": [{"row": 1}] * 33}, "a query must have 1 to 32 parts, got 33"),
        ({"q": "-cat"}, "'-cat': write '- cat', as two words"),
        ({"q": "3:10 to Yuma - x:y"}, "the weight 'x' is not a number"),
        ({"q": '"cat'}, "has a double quote that is not closed"),
        ({"q": 5}, "q must be a text, got 5"),
        ({"parts": {}}, "parts must be a list"),
        ({"parts": [3]}, "part 1 must be a JSON object"),
        ({"parts": [{}]}, "part 1 must have one of text, image and row"),
        ({"parts": [{"text": "a", "row": 3}]}, "part 1 must have one of"),
        ({"parts": [{"row": 1.5}]}, "row of part 1 must be a row's number, got 1.5"),
        ({"parts": [{"row": True}]}, "row of part 1 must be"),
        ({"parts": [{"row": 999}]}, "rows are numbered from 0 to 120"),
        ({"parts": [{"row": 1, "weight": 0}]}, "the weight of part 1 must not be 0"),
        ({"parts": [{"row": 1, "wieght": 2}]}, "unknown field wieght; nearest: weight"),
        ({"parts": [{"image": "no!"}]}, "image of part 1 must be the base64"),
        ({"q": "number 1", "over": "sounds"}, "over must be one of images, texts"),
        ({"q": "number 1", "dedup": 2}, "dedup must be true, false or a cosine above 0, up to 1"),
        ({"q": "number 1", "min_z": "3"}, "min_z must be a finite number, got '3'"),
        ({"q": "number 1 - number 1"}, "the parts of the query cancel"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_for_is_refused(app, body, message):
    answer = post(app, "/search", body)
    assert answer.status == 400 and message in answer.json["message"]


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"q": "number 1", "q": "number 2"}', "q"),
        (b'{"parts": [{"row": 1, "weight": 1, "weight": -1}]}', "weight"),
        (b'{"q": "number 1", "q": {"a": 1, "a": 1}}', "a"),
    ],
)
def test_a_field_that_is_given_twice_is_refused(app, body, key):
    answer = post(app, "/search", body)
    assert answer.status == 400 and answer.json["message"] == f"the request has {key!r} twice"


def test_a_line_has_words_and_quotes_and_apostrophes():
    assert split_words('a dog\'s ball - 2:"red  ball"') == [
        "a",
        "dog's",
        "ball",
        "-",
        "2:red  ball",
    ]
    assert split_words(" ") == []
    # A quoted sign is text.
    for line, texts in (
        ('"+"', {"+": 1.0}), ('a "+" b - "-"', {"a + b": 1.0, "-": -1.0}),
        ('"-40 degrees" + 2: "-" c', {"-40 degrees": 1.0, "- c": 2.0}),
        ('- "+cat"', {"+cat": -1.0}),
        ('"-3:10 to Yuma" - "a - b"', {"-3:10 to Yuma": 1.0, "a - b": -1.0}),
    ):  # fmt: skip
        assert {p.value: p.weight for p in parse_words(split_words(line))} == texts
    with pytest.raises(QueryError, match="write '- cat', as two words"):
        parse_words(split_words('-"cat"'))
    with pytest.raises(QueryError, match="a double quote that is not closed"):
        split_words('6" nails')
