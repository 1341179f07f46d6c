"""Queries in words, and their vectors."""

import numpy as np
import pytest

from fastclip.search.query import Part, QueryError, combined, parse_part, parse_words

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["cat"], [("cat", 1)]),
        (["a", "red", "car"], [("a red car", 1)]),
        (["cat", "+", "dog", "-", "black cat"], [("cat", 1), ("dog", 1), ("black cat", -1)]),
        (["2:cat", "-", "0.5:dog"], [("cat", 2), ("dog", -0.5)]),
        (["-", "cat"], [("cat", -1)]),
        (["1:3:10 to Yuma"], [("3:10 to Yuma", 1)]),
        (["1:-cat"], [("-cat", 1)]),
        (["1:-"], [("-", 1)]),
        (["cat + dog"], [("cat + dog", 1)]),
        ([], []),
    ],
)
def test_words_are_parts_with_weights(words, parts):
    assert parse_words(words) == [Part(value, float(weight)) for value, weight in parts]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cat", "+"], "empty"),
        (["+"], "empty"),
        (["cat", "+", "-", "dog"], "empty"),
        (["2:"], "empty"),
        ([" "], "empty"),
        (["two:cat"], "'two' is not a number.*'1:two:cat'"),
        (["nan:cat"], "finite"),
        (["0:cat"], "not 0"),
        (["cat", "-dog"], "'- dog'.*subtract.*'1:-dog'"),
        (["+dog"], "'[+] dog'.*add"),
    ],
)
def test_words_that_say_nothing_clear_are_refused(words, message):
    with pytest.raises(QueryError, match=message):
        parse_words(words)


def test_images_and_rows_have_weights_too():
    assert parse_part("-2:a:b.jpg", "image") == Part("a:b.jpg", -2.0, "image")
    assert parse_part("0.5:71", "row") == Part(71, 0.5, "row")
    for text in ("-1", "1.5", "²", "9" * 30):
        with pytest.raises(QueryError, match="not the number of a row"):
            parse_part(text, "row")


def test_the_query_is_the_unit_vector_of_the_weighted_sum_of_unit_vectors():
    vectors = np.float32([[3, 0], [0, 0.1]])
    found = combined(vectors, [Part("a", 1.0), Part("b", -2.0)])
    np.testing.assert_allclose(found, np.array([1, -2]) / np.sqrt(5), rtol=1e-6)
    assert found.dtype == np.float32
    huge = combined(vectors, [Part("a", 1e308), Part("b", 1e308)])
    np.testing.assert_allclose(huge, np.sqrt([0.5, 0.5]), rtol=1e-6)


@pytest.mark.parametrize(
    ("vectors", "weights", "message"),
    [
        ([[1, 0], [1, 1e-5]], [1, -1], "cancel"),
        ([[1, 0], [0, 0]], [1, 1], "length 0"),
        ([[1, 0], [np.nan, 0]], [1, 1], "length nan"),
        (np.empty((0, 2)), [], "empty"),
    ],
)
def test_a_query_without_direction_is_refused(vectors, weights, message):
    parts = [Part(f"part {number}", float(w)) for number, w in enumerate(weights)]
    with pytest.raises(QueryError, match=message):
        combined(np.array(vectors), parts)
