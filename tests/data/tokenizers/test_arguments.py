import pickle

import pytest
import torch

from fastclip.data.tokenizers.arguments import (
    TextTooLong,
    check_context_length,
    check_fits,
    list_ids,
    list_texts,
)


def test_a_single_text_is_a_list_of_one():
    assert list_texts("ab") == ["ab"]
    assert list_texts(("a", "b")) == ["a", "b"]
    assert list_texts(text for text in "ab") == ["a", "b"]


@pytest.mark.parametrize(
    "texts, message",
    [
        (["a", 3], r"texts\[1\] must be a string, got int: 3"),
        (["a", None], r"texts\[1\] must be a string, got NoneType"),
        ([["a"]], r"texts\[0\] must be a string, got list"),
        (b"a", r"texts\[0\] must be a string, got int"),
        (None, "texts must be a string or strings, got NoneType"),
    ],
)
def test_what_is_not_a_text_is_named(texts, message):
    with pytest.raises(TypeError, match=message):
        list_texts(texts)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, TextTooLong])
def test_too_long_is_caught_as_openais_error_and_as_ours(error):
    check_fits("a", 8, 8)
    with pytest.raises(error, match=r"9 tokens .* context_length is 8: 'a'; truncate=True"):
        check_fits("a", 9, 8)


def test_too_long_shows_the_beginning_of_a_text_and_can_be_pickled():
    with pytest.raises(TextTooLong) as caught:
        check_fits("a" * 10_000, 10_000, 8)
    assert len(str(caught.value)) < 250
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_context_length_must_hold_start_and_end():
    assert check_context_length(2) == 2
    with pytest.raises(ValueError, match="context_length must be at least 2, got 1"):
        check_context_length(1)
    with pytest.raises(TypeError, match=r"context_length must be an integer, got 8\.0"):
        check_context_length(8.0)


def test_ids_are_a_list_of_integers_whatever_held_them():
    ids = torch.tensor([1, 2])
    assert (
        list_ids(ids) == list_ids(list(ids)) == list_ids(ids.numpy()) == list_ids((1, 2)) == [1, 2]
    )
    assert all(type(i) is int for i in list_ids(ids.numpy()))


@pytest.mark.parametrize("ids", [torch.tensor([1.0]), [1.5], ["a"], 3])
def test_ids_that_are_not_integers_are_rejected(ids):
    with pytest.raises(TypeError, match="ids must be integers"):
        list_ids(ids)


@pytest.mark.parametrize("shape", [(), (1, 8)])
def test_ids_of_other_than_one_dimension_are_rejected(shape):
    with pytest.raises(ValueError, match="ids must have one dimension, got shape"):
        list_ids(torch.zeros(shape, dtype=torch.int64))
