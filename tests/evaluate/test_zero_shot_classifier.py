"""The matrix that classifies, beside open_clip's."""

import pytest
import torch

import fastclip
from fastclip.evaluate.classification import class_features
from fastclip.evaluate.zero_shot_classifier import (
    build_zero_shot_classifier,
    build_zero_shot_classifier_legacy,
)
from tests.support.peers import open_clip
from tests.support.small_models import SMALL, build

NAMES = [f"class {i}" for i in range(7)]
TEMPLATES = ["a photo of a {}.", "a drawing of the {}."]


def tokenizer(texts):
    rows = [[1 + sum(map(ord, text)) * k % 50 for k in range(1, 8)] + [63] for text in texts]
    return torch.tensor(rows)


@pytest.fixture(scope="module")
def model():
    return build(SMALL["vit"])


@pytest.mark.parametrize("per_batch", [1, 3, 10, None])
@pytest.mark.parametrize("kind", ["texts", "functions"])
def test_classifier_is_open_clips(model, per_batch, kind):
    templates = TEMPLATES if kind == "texts" else [lambda c, t=t: t.format(c) for t in TEMPLATES]
    arguments = (model, tokenizer, NAMES, templates)
    ours = build_zero_shot_classifier(*arguments, num_classes_per_batch=per_batch)
    theirs = open_clip.build_zero_shot_classifier(*arguments, num_classes_per_batch=per_batch)
    assert ours.shape == (48, 7) and not ours.requires_grad
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    legacy = build_zero_shot_classifier_legacy(*arguments)
    theirs = open_clip.build_zero_shot_classifier_legacy(*arguments)
    torch.testing.assert_close(legacy, theirs, rtol=1e-5, atol=1e-7)


def test_columns_are_the_rows_of_class_features_and_classify(model):
    classifier = build_zero_shot_classifier(model, tokenizer, NAMES, TEMPLATES, use_tqdm=True)
    rows = class_features(lambda texts: model.encode_text(tokenizer(texts)), NAMES, TEMPLATES)
    torch.testing.assert_close(classifier, rows.T)
    assert (rows @ classifier).argmax(1).tolist() == list(range(7))


@pytest.mark.parametrize(
    "classes, templates, settings, error, message",
    [
        ([], TEMPLATES, {}, ValueError, "classnames must not be empty"),
        (NAMES, [], {}, ValueError, "templates must not be empty"),
        (NAMES, "a photo of a {}.", {}, TypeError, "templates must be a sequence, got the string"),
        ("dog", TEMPLATES, {}, TypeError, "classnames must be a sequence, got the string"),
        (NAMES, ["a photo"], {}, ValueError, "'a photo' is not a template: it must contain {}"),
        (NAMES, ["a {c}"], {}, ValueError, "'a {c}' is not a template: it has a field {c}"),
        (NAMES, TEMPLATES, {"num_classes_per_batch": 0}, ValueError, "at least 1, got 0"),
    ],
)
def test_arguments_are_checked_before_a_text_is_encoded(
    classes, templates, settings, error, message
):
    with pytest.raises(error, match=message):
        build_zero_shot_classifier(None, None, classes, templates, **settings)


def test_names_and_templates_are_open_clips_whether_called_or_formatted():
    metadata = open_clip.zero_shot_metadata
    assert fastclip.IMAGENET_CLASSNAMES == tuple(metadata.IMAGENET_CLASSNAMES)
    for name, count in (("OPENAI_IMAGENET_TEMPLATES", 80), ("SIMPLE_IMAGENET_TEMPLATES", 7)):
        ours, theirs = getattr(fastclip, name), getattr(metadata, name)
        assert len(ours) == count
        for own, other in zip(ours, theirs, strict=True):
            assert own("tench") == own.format("tench") == other("tench")
