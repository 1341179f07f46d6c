"""How labelled features are divided, and which are refused."""

import pytest
import torch

from fastclip.evaluate.probe.parts import Part, checked_part, divided, place_in_class

LABELS = torch.tensor([4, 0, 0, 4, 0, 2, 0, 4, 0, 0, 4, 4, 4])


def test_places_count_the_images_of_each_class_once():
    for seed in range(5):
        places = place_in_class(LABELS, seed)
        for label in (0, 2, 4):
            own = places[label == LABELS]
            assert own.sort().values.tolist() == list(range(len(own)))
    assert len({tuple(place_in_class(LABELS, seed).tolist()) for seed in range(9)}) == 9
    assert torch.equal(place_in_class(LABELS, 3), place_in_class(LABELS, 3))


def test_every_image_of_a_class_is_as_often_the_first():
    labels = torch.tensor([1, 0, 1, 1, 0, 1])
    places = torch.stack([place_in_class(labels, seed) for seed in range(2000)])
    expected = torch.tensor([1 / 4, 1 / 2, 1 / 4, 1 / 4, 1 / 2, 1 / 4])
    torch.testing.assert_close((places == 0).float().mean(0), expected, atol=0.05, rtol=0)


def test_a_division_takes_its_fraction_of_each_class_and_leaves_one():
    part = Part(torch.arange(13.0)[:, None], LABELS)
    train, held = divided(part, 0.4, 0)
    assert held.labels.bincount(minlength=5).tolist() == [2, 0, 0, 0, 2]
    assert sorted([*train.features[:, 0].tolist(), *held.features[:, 0].tolist()]) == list(
        range(13)
    )
    for side in (train, held):
        assert torch.equal(LABELS[side.features[:, 0].long()], side.labels)
    assert sorted(divided(part, 1.0, 0)[0].labels.tolist()) == [0, 2, 4]
    assert not torch.equal(held.features, divided(part, 0.4, 1)[1].features)


@pytest.mark.parametrize(
    "name, features, labels, error, message",
    [
        ("train", torch.tensor([[1.0], [float("nan")]]), [0, 1], ValueError, "got 1 of 2 rows"),
        ("validation", torch.ones(2, 1) / 0, [0, 1], ValueError, "validation features must be fin"),
        ("test", torch.ones(2, 2), [0, 1], ValueError, "test features must have width 1, got 2"),
        ("train", torch.ones(2, 1), [0], ValueError, "train labels must be 2 numbers"),
        ("train", torch.ones(2, 1), [0, 3], ValueError, r"train labels must be in \[0, 3\)"),
        ("train", torch.ones(2, 1), [0.0, 1], TypeError, "train labels must be integers"),
        ("train", torch.ones(2, 1).int(), [0, 1], TypeError, "train features must be floating"),
    ],
)
def test_parts_are_refused_by_name(name, features, labels, error, message):
    with pytest.raises(error, match=message):
        checked_part(name, (features, labels), ["a", "b", "c"], width=1)


def test_features_to_test_may_be_no_numbers_and_a_part_is_two_values():
    assert checked_part("test", (torch.ones(2, 1) / 0, [0, 1]), None).features.isinf().all()
    with pytest.raises(ValueError, match=r"train must be \(features, labels\), got 3"):
        checked_part("train", (torch.ones(2, 1), [0, 1], None), None)
