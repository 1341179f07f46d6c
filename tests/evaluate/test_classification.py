import pytest
import torch
import torch.nn.functional as F

from fastclip.evaluate.classification import accuracy, class_features, classify, places
from fastclip.evaluate.metrics import top_metrics
from fastclip.evaluate.ranking import recall_at

VECTORS = {
    "a cat": [2.0, 0.0, 0.0],
    "one cat": [0.0, 5.0, 0.0],
    "a dog": [0.0, 0.0, 1.0],
    "one dog": [0.0, 0.0, 3.0],
}


def encode(texts):
    return torch.tensor([VECTORS[text] for text in texts])


def test_class_features_average_unit_prompts_and_normalise():
    found = class_features(encode, ["cat", "dog"], ["a {}", "one {}"])
    # Lengths of the prompts' features must not weigh: 2 and 5 count alike.
    expected = F.normalize(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(found, expected)


def test_classify_takes_the_nearest_class():
    classes = class_features(encode, ["cat", "dog"], ["a {}", "one {}"])
    images = torch.tensor([[0.1, 0.9, 0.3], [0.4, 0.1, 0.9]])
    assert classify(images, classes).tolist() == [0, 1]


def features(num, dim, seed):
    return F.normalize(torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("names", [None, "abcdefghi", "abacadaba"])
def test_places_are_those_of_a_stable_sort_of_all_classes(chunk, names):
    """Where nothing ties but equal names; those have the features of the first of them."""
    images, classes = features(60, 8, 0), features(9, 8, 1)
    labels = torch.randint(9, (60,), generator=torch.Generator().manual_seed(2))
    first = list(range(9)) if names is None else [names.index(name) for name in names]
    logits = (images.double() @ classes[first].double().T).round(decimals=6)
    order = logits.sort(dim=1, descending=True, stable=True).indices
    expected = 1 + (order == labels[:, None]).int().argmax(1)
    found = places(images, classes, labels, names, chunk)
    assert found.tolist() == expected.tolist() and len(found.unique()) > 5
    if names is None:
        right = classify(images, classes, chunk) == labels
        assert torch.equal(right, found == 1)
        assert top_metrics(found)["top1"] == accuracy(classify(images, classes), labels)
    assert top_metrics(found) == {"top1": recall_at(1, found), "top5": recall_at(5, found)}


@pytest.mark.parametrize("dim", [64, 512])
@pytest.mark.parametrize("num_classes", [2, 10, 17, 1001])
@pytest.mark.parametrize("num", [1, 8, 33])
def test_collapsed_features_are_right_nowhere(dim, num_classes, num):
    """In float32 alone, equal rows need not tie: 1 of 10 classes then stood before the others."""
    images = features(1, dim, 0).expand(num, dim).contiguous()
    classes = features(1, dim, 1).expand(num_classes, dim).contiguous()
    labels = torch.arange(num) % num_classes
    labels[-1] = num_classes - 1
    assert (places(images, classes, labels) == num_classes).all()
    assert (classify(images, classes) == -1).all()
    assert accuracy(classify(images, classes), labels) == 0


def test_a_tie_counts_against_the_model():
    images = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    classes = torch.eye(2)
    assert places(images, classes, torch.tensor([0, 0, 0])).tolist() == [1, 2, 2]
    assert places(images, classes, torch.tensor([1, 1, 1])).tolist() == [2, 2, 1]
    assert classify(images, classes).tolist() == [0, -1, 1]


def test_nan_is_no_hit_of_an_image_nor_of_a_class():
    images, classes = features(4, 8, 0), features(6, 8, 1)
    images[2] = float("nan")
    labels = torch.tensor([5, 1, 1, 0])
    assert places(images, classes, labels)[2] == 6
    assert classify(images, classes)[2] == -1 and (classify(images, classes)[:2] >= 0).all()
    # Of equal names, those that come later stand behind the right one even then.
    assert places(images, classes, labels, "abcbdb")[2] == 4
    whole = places(images, classes, labels)
    classes[3] = float("nan")
    assert (places(images, classes, labels) >= whole).all()
    assert (places(images, classes, labels) > 1).all() and (classify(images, classes) == -1).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(image_features=torch.ones(2, 4)), r"must be \(N, D\) and classes \(C, D\)"),
        (dict(classes=torch.ones(3)), r"must be \(N, D\) and classes \(C, D\)"),
        (dict(labels=torch.tensor([0])), r"labels must be 2 integers in \[0, 3\).*shape \(1,\)"),
        (dict(labels=torch.tensor([0, 3])), r"labels must be 2 integers in \[0, 3\).*from 0 to 3"),
        (dict(labels=torch.tensor([0, -1])), r"labels must be 2 integers in .*from -1 to 0"),
        (dict(class_names=["a", "b"]), "class_names must have 3 names, one per class, got 2"),
        (dict(chunk=0), "chunk must be at least 1, got 0"),
    ],
)
def test_places_reject_what_does_not_fit(changes, message):
    arguments = {
        "image_features": torch.ones(2, 5), "classes": torch.ones(3, 5),
        "labels": torch.tensor([0, 2]),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        places(**arguments | changes)
    if not {"labels", "class_names"} & changes.keys():
        del arguments["labels"]
        with pytest.raises(ValueError, match=message):
            classify(**arguments | changes)


def test_accuracy_is_the_fraction_of_hits():
    assert accuracy(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 0])) == 0.75


@pytest.mark.parametrize("predicted, labels", [([1], [1, 2]), ([], [])])
def test_accuracy_rejects_what_cannot_be_compared(predicted, labels):
    with pytest.raises(ValueError, match="both have the shape"):
        accuracy(torch.tensor(predicted), torch.tensor(labels))


@pytest.mark.parametrize(
    "names, templates, message",
    [([], ["a {}"], "empty"), (["cat"], [], "empty"), (["cat"], ["a cat"], "must contain")],
)
def test_class_features_reject(names, templates, message):
    with pytest.raises(ValueError, match=message):
        class_features(encode, names, templates)
