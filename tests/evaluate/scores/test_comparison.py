"""McNemar's exact test, against scipy's binomial test and by its calibration."""

import json

import pytest
import torch
from scipy.stats import binomtest

from fastclip.evaluate import compare


def answers(both, only_a, only_b, neither):
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


@pytest.mark.parametrize(
    "only_a, only_b",
    [(0, 0), (0, 1), (1, 0), (5, 5), (0, 6), (9, 1), (13, 12), (40, 71), (5000, 5300)],
)
def test_the_p_value_is_that_of_the_binomial_test_of_what_differs(only_a, only_b):
    found = compare(*answers(3, only_a, only_b, 2))
    num = only_a + only_b
    expected = binomtest(only_a, num).pvalue if num else 1.0
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    assert (found.both, found.only_a, found.only_b, found.neither) == (3, only_a, only_b, 2)


def test_what_both_answer_alike_says_nothing():
    p_values = {compare(*answers(both, 2, 9, neither)).p_value
                for both, neither in ((0, 0), (100, 0), (7, 1000))}  # fmt: skip
    assert len(p_values) == 1 and p_values.pop() == pytest.approx(binomtest(2, 11).pvalue)


def test_orders_and_types_do_not_matter_and_the_result_is_strict_json():
    a, b = (torch.tensor(values) for values in answers(5, 1, 4, 3))
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    found = compare(a[order].long(), b[order].int().numpy())
    assert found == compare(a, b)
    turned = compare(b, a)
    assert (turned.only_a, turned.p_value) == (found.only_b, found.p_value)
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert said["difference"] == pytest.approx(3 / 13) == said["b"] - said["a"]
    assert said["a"] == pytest.approx(6 / 13) and said["n"] == 13
    assert said["test"] == "mcnemar-exact" and said["p_value"] == found.p_value


def test_models_that_are_equally_good_seldom_seem_to_differ():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 1500, 200, generator=generator) < 0.7).unbind()
    found = [compare(*both).p_value for both in zip(a, b, strict=True)]
    assert 0.02 < sum(p <= 0.05 for p in found) / len(found) <= 0.06


def test_answers_about_one_image_count_as_one():
    """Ten captions of one image, all won by one model, are one image that it wins."""
    a, b = [False] * 10 + [True] * 2, [True] * 12
    found = compare(a, b, [7] * 10 + [3, 5])
    assert (found.only_b, found.n, found.images, found.p_value) == (10, 12, 3, 1.0)
    assert compare(a, b).p_value < 0.01
    assert found.to_dict()["test"] == "sign-flips-by-image-exact"
    assert compare(a, b, range(12)) == compare(a, b)  # an image each
    with pytest.raises(ValueError, match="image_of must be 12 numbers"):
        compare(a, b, [0])


def test_captions_of_images_that_differ_by_chance_seldom_seem_to_differ():
    """Five captions of an image, found together: as single answers they differ far too often."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 300, 100, generator=generator) < 0.7).repeat_interleave(5, 2).unbind()
    image_of = torch.arange(100).repeat_interleave(5)
    p_values = [[compare(*both, *by).p_value for both in zip(a, b, strict=True)]
                for by in ((image_of,), ())]  # fmt: skip
    by_image, alone = (sum(p <= 0.05 for p in found) / 300 for found in p_values)
    assert 0.01 < by_image <= 0.06 and alone > 0.2


@pytest.mark.parametrize(
    "a, b, message",
    [
        ([True], [True, False], "same images, got 1 and 2"),
        ([], [], "correct_a must be"),
        ([True, False], [1, 2], "correct_b must be"),
        ([[True]], [[True]], "correct_a must be"),
    ],
)
def test_compare_rejects(a, b, message):
    with pytest.raises(ValueError, match=message):
        compare(a, b)
