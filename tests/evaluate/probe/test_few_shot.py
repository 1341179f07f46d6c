"""Probes with k images of each class."""

import json
from statistics import mean, stdev

import pytest
import torch
import torch.nn.functional as F

from fastclip.evaluate import few_shot, linear_probe
from fastclip.evaluate.probe.parts import place_in_class


@pytest.fixture(scope="module")
def parts():
    generator = torch.Generator().manual_seed(0)
    centers = F.normalize(torch.randn(6, 12, generator=generator))
    labels = torch.arange(300) % 6
    features = F.normalize(centers[labels] + 0.35 * torch.randn(300, 12, generator=generator))
    return (features[:120], labels[:120]), (features[120:], labels[120:])


@pytest.fixture(scope="module")
def found(parts):
    return few_shot(*parts, shots=(8, 1, 2, 4), seeds=3)


def test_more_images_of_each_class_are_better_and_all_seeds_differ(found):
    assert found.shots == (1, 2, 4, 8)
    means = [mean(found.values(k)) for k in found.shots]
    assert means == sorted(means) and means[0] < means[-1] - 0.1
    for k in found.shots:
        assert len(found.values(k)) == 3
    assert len(set(found.values(1))) == 3
    assert [shot.probe.num_train for shot in found.probes] == [
        6 * k for k in (1, 2, 4, 8) for _ in range(3)
    ]


def test_each_probe_is_the_linear_probe_of_images_it_has_seen(parts, found):
    """k of each class, which with one seed are among its 2 k."""
    (features, labels), test = parts
    places = place_in_class(labels, 1)
    for shot in found.probes:
        if shot.seed == 1:
            is_in = places < shot.shots
            assert labels[is_in].bincount().tolist() == [shot.shots] * 6
            alone = linear_probe((features[is_in], labels[is_in]), test, c_grid=[0.316])
            assert alone.metrics == shot.probe.metrics
            torch.testing.assert_close(alone.weight, shot.probe.weight)


def test_the_result_is_strict_json_with_means_over_seeds(found):
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (said["protocol"], said["feature"]) == ("clip-lbfgs", "embedding")
    assert [row["fewshot_k"] for row in said["summary"]] == [1, 2, 4, 8]
    values = found.values(2)
    assert said["summary"][1] == {
        "fewshot_k": 2,
        "seeds": 3,
        **{
            name: {
                "mean": pytest.approx(mean(found.values(2, name))),
                "deviation": pytest.approx(stdev(found.values(2, name))),
                "min": min(found.values(2, name)),
                "max": max(found.values(2, name)),
            }
            for name in ("lp_acc1", "lp_acc5", "lp_mean_per_class_recall")
        },
    }
    second = [row for row in said["probes"] if row["fewshot_k"] == 2]
    assert [row["metrics"]["lp_acc1"] for row in second] == values
    assert [row["seed"] for row in second] == [0, 1, 2] and second[0]["c"] == 0.316
    assert "per_class" not in second[0]


def test_one_seed_has_no_deviation_and_few_classes_no_fifth_place(parts):
    features, labels = parts[0]
    is_in = labels < 3
    part = features[is_in], labels[is_in]
    said = few_shot(part, part, shots=[2], seeds=1).to_dict()
    assert said["summary"][0]["lp_acc1"]["deviation"] is None
    assert said["summary"][0]["lp_acc5"] is None


def test_c_is_chosen_on_images_that_are_not_trained_on(parts):
    train, (features, labels) = parts
    validation, test = (features[:60], labels[:60]), (features[60:], labels[60:])
    found = few_shot(train, test, [4], 1, validation=validation, c_grid=[1e-4, 1, 1e4, 1e6])
    (shot,) = found.probes
    assert [tried.c for tried in shot.probe.choice.tried] == [1e-4, 1, 1e4, 1e6]
    assert shot.probe.num_train == 24 and shot.probe.num_validation == 60
    assert shot.probe.validation == "given, not trained on"


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(shots=[1, 5]), "smallest class: 'bird' has 4, got 5"),
        (dict(shots=[0, 1]), r"shots must be numbers of at least 1, got \[0, 1\]"),
        (dict(shots=[]), "shots must be"),
        (dict(seeds=0), "seeds must be at least 1"),
        (dict(c_grid="clip"), "c_grid has 97 values.*give validation="),
        (dict(feature="x"), "feature must be one of"),
    ],
)
def test_few_shot_rejects(changes, message):
    labels = torch.tensor([0] * 6 + [1] * 4 + [2] * 5)
    part = torch.eye(3)[labels], labels
    arguments = dict(shots=[1, 4], seeds=1, class_names=["cat", "bird", "dog", "of the test"])
    few_shot(part, part, **arguments)
    with pytest.raises(ValueError, match=message):
        few_shot(part, part, **arguments | changes)
