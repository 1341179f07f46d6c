"""`fastclip.evaluate.zero_shot`: parity with CLIP_benchmark, ties, subsets, what is no number."""

import json
import warnings

import pytest
import torch
import torch.nn.functional as F
from clip_benchmark.metrics import zeroshot_classification as clip_benchmark
from sklearn.metrics import balanced_accuracy_score

from fastclip.evaluate import classification, wilson, zero_shot


def features(num, dim, seed):
    return F.normalize(torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def numbers(below, num, seed=0):
    return torch.randint(below, (num,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_classes, length", [(2, 1), (4, 9.5), (5, 1), (40, 0.01)])
def test_metrics_are_those_of_clip_benchmark(num_classes, length, monkeypatch):
    # Its `accuracy` makes numbers of arrays of one number, which numpy no longer does by itself.
    monkeypatch.setattr(clip_benchmark, "float", lambda array: array.item(), raising=False)
    images, classifier = length * features(300, 16, 0), features(num_classes, 16, 1).T
    labels = (images @ classifier).argmax(1).where(numbers(3, 300) > 0, numbers(num_classes, 300))
    found = zero_shot(images, classifier, labels)
    logits = 100.0 * images @ classifier
    expected = clip_benchmark.accuracy(logits, labels, topk=(1, 5) if num_classes >= 5 else (1,))
    assert found.metrics == {
        "acc1": pytest.approx(expected[0], abs=1e-12),
        "acc5": pytest.approx(expected[1], abs=1e-12) if num_classes >= 5 else None,
        "mean_per_class_recall": pytest.approx(balanced_accuracy_score(labels, logits.argmax(1))),
    }
    assert 0.5 < found.metrics["acc1"] < 1 and found.rates["acc1"].ties == 0
    assert torch.equal(found.correct, logits.argmax(1) == labels)
    assert found.intervals["acc1"] == wilson(int(found.correct.sum()), 300)


def test_the_mean_recall_is_that_of_classes_with_images_and_the_others_are_named():
    images = torch.eye(3)[[0, 0, 0, 0, 1]]
    found = zero_shot(images, torch.eye(3), [0, 0, 0, 1, 1], class_names=["a", "b", "c"])
    assert found.metrics["acc1"] == 0.8
    assert found.metrics["mean_per_class_recall"] == 0.75
    assert [rate and (rate.hits, rate.n) for rate in found.per_class] == [(3, 3), (1, 2), None]
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert said["classes_without_images"] == ["c"]
    assert [entry["class"] for entry in said["per_class"]] == ["a", "b"]
    assert said["metrics"]["acc5"] is said["intervals"]["acc5"] is said["counts"]["acc5"] is None
    assert (said["n"], said["hits"], said["ties"], said["num_classes"]) == (5, 4, 0, 3)
    low, high = wilson(1, 2)
    assert said["per_class"][1] == {
        "class": "b", "recall": 0.5, "hits": 1, "n": 2, "ties": 0, "low": low, "high": high
    }  # fmt: skip


def planted():
    """By classes in which the right one ties with 0 to 6 others, and loses to 0 or 2."""
    classes = torch.eye(8)[:, :4].contiguous()
    classes[:7, 3] = torch.tensor([0.0, 0, 0, 0, 0, 0, 1])
    images = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    return images, classes.T, torch.tensor([0, 0, 2, 0, 5])


def test_ties_count_against_the_model_and_are_counted():
    images, classifier, labels = planted()
    found = zero_shot(images, classifier, labels)
    assert found.places.tolist() == [1, 2, 3, 8, 8]
    assert found.ties.tolist() == [0, 1, 2, 6, 7]
    assert found.rates["acc1"].hits == 1
    assert found.rates["acc1"].ties == 3  # the image that class 6 is nearest to is lost anyway
    assert found.rates["acc5"].hits == 3 and found.rates["acc5"].ties == 2
    assert sum(rate.ties for rate in found.per_class if rate) == 3


def test_ties_in_the_models_favour_would_be_seen(monkeypatch):
    def in_favour(near, right):
        own = (near == right[:, None]).int().argmax(1, keepdim=True)
        return (near > right[:, None]).scatter(1, own, True)

    monkeypatch.setattr(classification, "counts_against", in_favour)
    found = zero_shot(*planted())
    assert found.places.tolist() == [1, 1, 1, 2, 1] and found.rates["acc1"].hits == 4


def test_classes_of_one_name_do_not_tie():
    classifier = torch.eye(4)[:, [0, 1, 0, 2]]
    found = zero_shot(torch.eye(4)[[0, 0, 1]], classifier, [0, 2, 1], class_names=[*"abac"])
    assert found.places.tolist() == [1, 2, 1] and found.ties.tolist() == [0, 0, 0]
    apart = zero_shot(torch.eye(4)[[0, 0, 1]], classifier, [0, 2, 1])
    assert apart.places.tolist() == [2, 2, 1] and apart.ties.tolist() == [1, 1, 0]


def test_a_collapsed_model_scores_nothing():
    images, classifier = features(1, 8, 0).expand(50, 8), features(1, 8, 1).expand(20, 8).T
    found = zero_shot(images, classifier, numbers(20, 50))
    assert found.metrics == {"acc1": 0, "acc5": 0, "mean_per_class_recall": 0}
    assert found.rates["acc1"].ties == found.rates["acc5"].ties == 50


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("num_classes", [5, 12])
def test_images_that_are_no_numbers_are_wrong_at_any_place_and_counted(bad, num_classes):
    images, classifier = features(30, 8, 0), features(num_classes, 8, 1).T
    labels = (images @ classifier).argmax(1)
    images[[3, 17], [0, 5]] = bad
    found = zero_shot(images, classifier, labels)
    assert found.non_finite == 2 == found.to_dict()["non_finite"]
    assert found.rates["acc1"].hits == found.rates["acc5"].hits == 28
    assert found.places[[3, 17]].tolist() == [num_classes + 1] * 2
    assert found.ties.sum() == 0 and found.rates["acc1"].ties == 0


def test_a_subset_is_taken_before_the_best_class():
    """A model that always prefers class 7, which images of the data set cannot belong to."""
    classes = features(12, 6, 0)
    classes[7] = 0
    classes[7, 0] = 1
    labels = torch.tensor([2, 9, 4, 9, 2, 11])
    images = F.normalize(0.3 * classes[labels] + 5 * classes[7], dim=1)
    assert (images @ classes.T).argmax(1).tolist() == [7] * 6
    assert zero_shot(images, classes.T, labels).metrics["acc1"] == 0
    subset = [2, 11, 4, 9]
    centered = F.normalize(classes - classes * torch.eye(6)[0], dim=1)  # ranks without class 7
    found = zero_shot(F.normalize(centered[labels] + 5 * classes[7]), centered.T, labels,
                      subset=subset, class_names=[f"class {i}" for i in range(12)])  # fmt: skip
    assert found.metrics == {"acc1": 1, "acc5": None, "mean_per_class_recall": 1}
    assert found.labels.tolist() == [0, 3, 2, 3, 0, 1]
    assert found.class_names == ["class 2", "class 11", "class 4", "class 9"]
    alone = zero_shot(images, classes[subset].T, found.labels)
    assert torch.equal(alone.places, zero_shot(images, classes.T, labels, subset=subset).places)
    assert zero_shot(images, classes.T, labels, subset=subset).class_names == subset


def test_labels_in_the_numbering_of_the_subset_are_refused_by_name():
    images, classifier, subset = features(3, 8, 0), features(6, 8, 1).T, [1, 3, 5]
    with pytest.raises(ValueError, match=r"labels must be in subset.*got 0 at 1.*tensor\(subset\)"):
        zero_shot(images, classifier, [1, 0, 1], subset=subset)
    found = zero_shot(images, classifier, torch.tensor(subset)[[1, 0, 1]], subset=subset)
    assert found.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_point_is_taken_and_nothing_warns(dtype):
    images, classifier = features(20, 8, 0).to(dtype), features(6, 8, 1).T
    labels = (images.float() @ classifier).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert zero_shot(images.requires_grad_(), classifier, labels).metrics["acc1"] == 1


@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(classifier=features(6, 8, 1)), ValueError, r"\(8, C\).*got \(6, 8\).*transposed"),
        (dict(classifier=torch.ones(7, 6)), ValueError, r"\(8, C\).*got \(7, 6\)$"),
        (dict(classifier=features(8, 8, 1)), ValueError, "transpose it"),
        (dict(classifier=torch.ones(8, 6).long()), TypeError, "classifier must be floating"),
        (dict(classifier=features(1, 8, 1).T, labels=[0] * 4), ValueError, "at least two classes"),
        (dict(class_names=["a"] * 6), ValueError, r"at least two classes.*\['a'\]"),
        (dict(class_names=["a"]), ValueError, "class_names must have 6 names"),
        (dict(image_features=torch.ones(4)), ValueError, r"image_features must be \(N, D\)"),
        (dict(image_features=torch.ones(0, 8)), ValueError, "N and D >= 1"),
        (dict(labels=[0, 1, 2]), ValueError, "labels must be 4 numbers"),
        (dict(labels=[0, 1, 2, 6]), ValueError, r"labels must be in \[0, 6\), got 6 at 3"),
        (dict(labels=[0, 1, -1, 2]), ValueError, r"got -1 at 2"),
        (dict(labels=[0.0, 1, 2, 3]), TypeError, "labels must be integers"),
        (dict(labels=torch.full((4, 6), 2)), ValueError, "zeros and ones"),
        (dict(labels=torch.ones(4, 5)), ValueError, r"\(4, 6\) zeros and ones"),
        (dict(subset=[0, 1, 2, 1]), ValueError, "subset must not repeat a class, got the class 1"),
        (dict(subset=[0, 6]), ValueError, r"subset must be in \[0, 6\)"),
        (dict(subset=torch.ones(6).bool()), TypeError, "subset must be integers"),
        (dict(subset=[1], labels=[1] * 4), ValueError, "at least two classes"),
    ],
)
def test_zero_shot_rejects(changes, error, message):
    arguments = {
        "image_features": features(4, 8, 0), "classifier": features(6, 8, 1).T,
        "labels": [0, 1, 2, 3],
    }  # fmt: skip
    zero_shot(**arguments)
    with pytest.raises(error, match=message):
        zero_shot(**arguments | changes)


def test_a_square_classifier_is_one_class_per_column():
    classes = features(8, 8, 1)
    labels = numbers(8, 40)
    assert zero_shot(classes[labels], classes.T, labels).metrics["acc1"] == 1


# Several labels per image.


@pytest.mark.parametrize("block", [200, 2**24])
def test_average_precision_is_that_of_clip_benchmark(block, monkeypatch):
    monkeypatch.setattr("fastclip.evaluate.scores.average_precision.MAX_BLOCK", block)
    images, classifier = features(80, 6, 0), features(7, 6, 1).T
    scores = images @ classifier
    truth = scores + 0.5 * torch.randn(scores.shape, generator=torch.Generator().manual_seed(2)) > 0
    truth[:, 4] = False  # 0 in the mean, as there
    lengths = torch.linspace(0.1, 9, 80)[:, None]
    found = zero_shot(lengths * images, classifier, truth.long(), class_names=[*"abcdefg"])
    expected = clip_benchmark.average_precision_per_class(scores, truth)
    torch.testing.assert_close(found.average_precision.float(), expected)
    assert found.metrics == {"mean_average_precision": pytest.approx(expected.mean().item())}
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert said["classes_without_images"] == ["e"] and said["ties"] == 0 and said["n"] == 80
    assert [entry["n"] for entry in said["per_class"]] == truth.sum(0).tolist()


def test_average_precision_counts_ties_against_the_model():
    images = torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0], [-1, 0]])
    truth = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 0, 1, 1]]).T
    found = zero_shot(images, torch.eye(2), truth)
    # Of class 0, images 0, 2, 3 tie, of which it has image 0: third, and image 1 after them.
    # Of class 1, image 1 is first; 0, 2, 3, 4 tie, of which it has 3 and 4: fourth and fifth.
    assert found.average_precision.tolist() == pytest.approx(
        [(1 / 3 + 2 / 4) / 2, (1 + 2 / 4 + 3 / 5) / 3]
    )
    assert found.ties.tolist() == [1, 2]
    collapsed = zero_shot(images[:1].expand(5, 2), torch.eye(2), truth)
    assert collapsed.average_precision.tolist() == pytest.approx(
        [(1 / 4 + 2 / 5) / 2, (1 / 3 + 2 / 4 + 3 / 5) / 3]
    )


def test_images_that_are_no_numbers_are_never_found_and_stand_before_others():
    images, truth = torch.eye(3)[[0, 0, 1, 2]], torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0]]).T
    whole = zero_shot(images, torch.eye(3)[:, :2], truth)
    assert whole.average_precision.tolist() == [1, 1]
    images[1] = float("nan")
    found = zero_shot(images, torch.eye(3)[:, :2], truth)
    assert found.average_precision.tolist() == [0.5, 0.5] and found.non_finite == 1


def test_a_subset_of_columns_is_ranked_alone():
    images, classifier = features(30, 6, 0), features(7, 6, 1).T
    truth = images @ classifier > 0
    found = zero_shot(images, classifier, truth, subset=[5, 2])
    alone = zero_shot(images, classifier[:, [5, 2]], truth[:, [5, 2]])
    assert torch.equal(found.average_precision, alone.average_precision)
    assert found.class_names == [5, 2]
