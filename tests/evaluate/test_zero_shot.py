import pytest
import torch
import torch.nn.functional as F

from fastclip.evaluate.classification import accuracy, class_features, classify

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


def test_accuracy_is_the_share_of_hits():
    assert accuracy(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 0])) == 0.75


@pytest.mark.parametrize("predicted, labels", [([1], [1, 2]), ([], [])])
def test_accuracy_rejects_what_cannot_be_compared(predicted, labels):
    with pytest.raises(ValueError, match="alike"):
        accuracy(torch.tensor(predicted), torch.tensor(labels))


@pytest.mark.parametrize(
    "names, templates, message",
    [([], ["a {}"], "empty"), (["cat"], [], "empty"), (["cat"], ["a cat"], "must hold")],
)
def test_class_features_reject(names, templates, message):
    with pytest.raises(ValueError, match=message):
        class_features(encode, names, templates)
