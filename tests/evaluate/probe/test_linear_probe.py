"""The probe on features alone: its protocol, what it says, and what it refuses."""

import json
import warnings

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from fastclip.evaluate import linear_probe, zero_shot


@pytest.fixture(scope="module")
def parts():
    """Ten classes that overlap, so that neither the smallest nor the largest C is best."""
    generator = torch.Generator().manual_seed(0)
    centers = F.normalize(torch.randn(10, 16, generator=generator), dim=1)
    labels = torch.randint(10, (700,), generator=generator)
    features = centers[labels] + 0.35 * torch.randn(700, 16, generator=generator)
    sides = (values.split([250, 150, 300]) for values in (F.normalize(features, dim=1), labels))
    names = ("train", "validation", "test")
    return dict(zip(names, zip(*sides, strict=True), strict=True))


@pytest.fixture(scope="module")
def probe(parts):
    return linear_probe(**parts, max_iter=200)


def accuracy(train, test, c):
    model = LogisticRegression(C=c, tol=1e-8, max_iter=10_000)
    model.fit(train[0].double().numpy(), train[1].numpy())
    return model.score(test[0].double().numpy(), test[1].numpy())


def test_c_is_best_on_validation_and_the_probe_is_trained_on_both(parts, probe):
    tried = {found.c: found.accuracy for found in probe.choice.tried}
    assert len(tried) <= 15 and list(tried) == sorted(tried)
    best = max(tried.values())
    assert probe.choice.c == min(c for c, value in tried.items() if value == best)
    assert tried[1.0] == pytest.approx(accuracy(parts["train"], parts["validation"], 1), abs=0.006)
    both = [torch.cat(pair) for pair in zip(parts["train"], parts["validation"], strict=True)]
    assert probe.metrics["lp_acc1"] == pytest.approx(accuracy(both, parts["test"], probe.choice.c))
    assert (probe.num_train, probe.num_validation, probe.validation) == (400, 150, "given")
    assert 0.8 < probe.metrics["lp_acc1"] < probe.metrics["lp_acc5"] < 1


def test_the_result_is_strict_json_that_names_its_protocol(probe):
    said = json.loads(json.dumps(probe.to_dict(), allow_nan=False))
    assert (said["protocol"], said["feature"]) == ("clip-lbfgs", "embedding")
    assert list(said["metrics"]) == ["lp_acc1", "lp_acc5", "lp_mean_per_class_recall"]
    assert said["metrics"] == probe.metrics and list(said["intervals"]) == list(said["metrics"])
    low, high = said["intervals"]["lp_acc1"].values()
    assert low < said["metrics"]["lp_acc1"] < high
    assert said["c"] == probe.choice.c and not said["c_is_at_end"] and said["is_converged"]
    assert [found["c"] for found in said["c_tried"]] == [found.c for found in probe.choice.tried]
    assert said["n"] == 300 and said["hits"] == int(probe.correct.sum())
    assert said["untrained_classes"] == [] and len(said["per_class"]) == 10


def test_the_probe_is_a_classifier_of_ones_own(parts, probe):
    features, labels = parts["test"]
    logits = features.double() @ probe.weight.T + probe.bias
    assert torch.equal(logits.argmax(1) == labels, probe.correct)


def test_without_a_validation_part_a_fifth_of_each_class_is_split_off_and_that_is_said(parts):
    grid = [1e-3, 1, 30, 1e3]
    found = linear_probe(parts["train"], parts["test"], c_grid=grid, seed=5)
    counts = parts["train"][1].bincount()
    assert found.num_validation == int((counts * 0.2).round().sum()) and found.num_train == 250
    assert found.validation == "split from train: 20% of each class, seed 5"
    assert [tried.c for tried in found.choice.tried] == grid
    other = linear_probe(parts["train"], parts["test"], c_grid=grid, seed=6)
    assert [t.accuracy for t in other.choice.tried] != [t.accuracy for t in found.choice.tried]
    assert other.num_train == 250  # trained on all in the end


def test_one_value_of_c_is_not_chosen(parts):
    found = linear_probe(parts["train"], parts["test"], c_grid=[0.316])
    assert found.choice.c == 0.316 and found.choice.tried == () and not found.choice.is_at_end
    assert found.validation == "none: there is one value of C" and found.num_train == 250
    assert found.metrics["lp_acc1"] == accuracy(parts["train"], parts["test"], 0.316)


def test_c_at_an_end_of_the_range_is_a_warning_at_the_callers_line(parts):
    with pytest.warns(UserWarning, match="the best C, 0.1, is at the end of .* to 0.1") as said:
        found = linear_probe(**parts, c_grid=[1e-3, 0.1])
    assert found.choice.is_at_end and found.to_dict()["c_is_at_end"]
    assert said[0].filename == __file__


def test_a_probe_that_has_not_converged_is_a_warning(parts):
    with pytest.warns(UserWarning, match="C = 10 has not converged in 3 steps"):
        found = linear_probe(parts["train"], parts["test"], c_grid=[10], max_iter=3)
    assert not found.to_dict()["is_converged"]


def test_the_path_of_all_values_is_the_same_as_each_alone(parts):
    grid = [1e-2, 1, 30, 1e3]
    found = linear_probe(**parts, c_grid=grid[::-1])
    for tried in found.choice.tried:
        alone = linear_probe(parts["train"], parts["validation"], c_grid=[tried.c])
        assert tried.accuracy == pytest.approx(alone.metrics["lp_acc1"], abs=0.006)
        assert tried.is_converged


def test_classes_without_training_images_are_wrong_and_named(parts):
    features, labels = parts["train"]
    is_in = (labels != 3) & (labels != 9)
    found = linear_probe((features[is_in], labels[is_in]), parts["test"], c_grid=[1.0],
                         class_names=[f"digit {i}" for i in range(10)])  # fmt: skip
    assert found.untrained_classes == ("digit 3", "digit 9")
    rates = found.answers.per_class
    assert rates[3].hits == rates[9].hits == 0 and rates[0].hits > 0
    assert found.bias[3] == found.bias[9] == -torch.inf and found.weight[3].abs().max() == 0
    assert found.metrics["lp_acc5"] < 0.9
    json.dumps(found.to_dict(), allow_nan=False)


def test_few_classes_have_no_fifth_place_and_names_may_be_equal(parts):
    features, labels = parts["train"]
    is_in = labels < 3
    part = features[is_in], labels[is_in]
    found = linear_probe(part, part, c_grid=[10], class_names=["a", "b", "a"])
    assert found.metrics["lp_acc5"] is None
    assert found.metrics["lp_acc1"] == accuracy(part, part, 10) > 0.9


def test_test_images_that_are_no_numbers_are_wrong_and_counted(parts):
    features, labels = parts["test"]
    features = features.clone()
    features[::3, 4] = float("nan")
    found = linear_probe(parts["train"], (features, labels), c_grid=[1.0])
    whole = linear_probe(parts["train"], parts["test"], c_grid=[1.0])
    expected = whole.correct.clone()
    expected[::3] = False
    assert torch.equal(found.correct, expected) and found.answers.non_finite == 100


def test_types_of_features_do_not_matter_much(parts):
    half = [(features.half(), labels.int()) for features, labels in parts.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = linear_probe(
            half[0], half[2], validation=parts["validation"], c_grid=[1e-3, 1, 30, 1e3]
        )
        whole = linear_probe(**parts, c_grid=[1e-3, 1, 30, 1e3])
    assert found.metrics["lp_acc1"] == pytest.approx(whole.metrics["lp_acc1"], abs=0.01)


def test_what_the_features_are_is_what_the_caller_says(parts):
    found = linear_probe(parts["train"], parts["test"], c_grid=[1], feature="before_projection")
    assert found.to_dict()["feature"] == "before_projection"


def test_a_probe_and_zero_shot_are_scored_alike(parts, probe):
    """A probe without intercepts is a classifier: both give the same answers."""
    features, labels = parts["test"]
    rows = torch.cat([features.double(), torch.ones(300, 1, dtype=torch.float64)], 1)
    found = zero_shot(rows, torch.cat([probe.weight, probe.bias[:, None]], 1).T, labels)
    assert torch.equal(found.places, probe.answers.places)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(feature="logits"),
            "feature must be one of embedding, before_projection, got 'logits'",
        ),
        (dict(max_iter=0), "max_iter must be at least 1"),
        (dict(c_grid="all"), "c_grid must be 'clip'"),
        (dict(train=(torch.eye(3), [1, 1, 1])), r"at least two classes, got only \[1\]"),
        (dict(train=(torch.eye(3), [0, 1, 2])), "too few images of each class to split off 20%"),
        (dict(test=(torch.ones(2, 5), [0, 1])), "test features must have width 3, got 5"),
        (dict(class_names=["a"]), r"train labels must be in \[0, 1\)"),
    ],
)
def test_linear_probe_rejects(changes, message):
    arguments = {
        "train": (torch.eye(3).repeat(4, 1), [0, 1, 2] * 4), "test": (torch.eye(3), [0, 1, 2]),
        "c_grid": [0.1, 1, 10],
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear_probe(**arguments)
    with pytest.raises(ValueError, match=message):
        linear_probe(**arguments | changes)
