"""Answers for images, of a model in which texts have the features of images."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from fastclip import evaluate
from fastclip.data.sources.samples import BadSample
from fastclip.evaluate.class_prompts import ClassPrompts, make_class_prompts
from fastclip.evaluate.image_classifier import ImageClassifier, classify_images
from fastclip.models.inference import open_model
from tests.support.images import encoded, random_image
from tests.support.planted import plant
from tests.support.ready import tiny_directory

COLOURS = ["red", "green", "blue"]
IMAGES = {colour: Image.new("RGB", (40, 50), colour) for colour in COLOURS}
PROMPTS = make_class_prompts(COLOURS, ["a photo of a {}."])


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    found = open_model(tiny_directory(tmp_path_factory.mktemp("model") / "tiny"), device="cpu")
    return plant(found, {f"a photo of a {name}.": image for name, image in IMAGES.items()})


@pytest.fixture(scope="module")
def classifier(ready):
    return ImageClassifier.of(ready, PROMPTS)


def test_paths_bytes_and_images_have_the_nearest_class_with_its_probability(ready, tmp_path):
    IMAGES["blue"].save(tmp_path / "blue.png")
    images = [tmp_path / "blue.png", encoded(IMAGES["red"], "PNG"), IMAGES["green"]]
    found = list(evaluate.classify_images(ready, images, PROMPTS))
    assert [answer.predicted for answer in found] == ["blue", "red", "green"]
    assert [answer.image for answer in found] == [str(tmp_path / "blue.png"), "image 1", "image 2"]
    for answer in found:
        ranks, names, probabilities, cosines = zip(*answer.guesses, strict=True)
        assert ranks == (1, 2, 3) and sorted(names) == sorted(COLOURS)
        assert cosines[0] == pytest.approx(1.0, abs=1e-5) and cosines[1] < 0.9
        weights = [math.exp(ready.logit_scale * cosine) for cosine in cosines]
        expected = [weight / sum(weights) for weight in weights]
        assert probabilities == pytest.approx(expected, rel=1e-5)


def test_the_best_few_are_given_and_probabilities_are_those_among_all(classifier):
    (few,), (all_of_them,) = (list(classifier.answers([IMAGES["red"]], top=top)) for top in (2, 50))
    assert few.guesses == all_of_them.guesses[:2] and len(all_of_them.guesses) == 3


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_what_cannot_be_used_is_skipped_in_its_place(classifier, tmp_path, batch_size):
    (tmp_path / "text.png").write_text("no image")
    paths = [tmp_path / name for name in ("absent.png", "text.png", "red.png")]
    IMAGES["red"].save(paths[2])
    bad = BadSample("photos", "folder without images")
    found = list(classifier.answers([*paths, bad, IMAGES["green"]], batch_size=batch_size))
    assert [answer.predicted for answer in found] == [None, None, "red", None, "green"]
    reasons = [answer.skipped and answer.skipped.reason for answer in found]
    assert reasons == ["missing image file", "unusable image", None, "folder without images", None]
    assert found[1].skipped.detail.startswith("not in a known format")
    assert found[3].image == "photos" and found[4].image == "image 4"
    assert not found[0].guesses and found[0].num_nearest == 0


def test_images_are_read_when_their_batch_is_asked_for(classifier):
    taken = []

    def images():
        for number in range(6):
            taken.append(number)
            yield IMAGES["red"]

    stream = classifier.answers(images(), batch_size=2)
    assert taken == []
    next(stream), next(stream), next(stream)
    assert taken == [0, 1, 2, 3]


def test_classes_that_are_as_near_have_one_rank_and_none_is_predicted(ready):
    prompts = make_class_prompts(["blue", "RED", "red", "green"], ["a photo of a {}."])
    red, green = classify_images(ready, [IMAGES["red"], IMAGES["green"]], prompts)
    assert [(guess.rank, guess.name) for guess in red.guesses[:2]] == [(1, "RED"), (1, "red")]
    assert [guess.rank for guess in red.guesses[2:]] == [3, 4]
    assert red.num_nearest == 2 and red.predicted is None and red.to_dict()["predicted"] is None
    assert (green.predicted, green.num_nearest) == ("green", 1)
    assert sorted(guess.rank for guess in green.guesses)[0] == 1


def test_a_name_counts_once(ready):
    prompts = make_class_prompts(["red", "blue", "red", "red"], ["a photo of a {}."])
    (found,) = classify_images(ready, [IMAGES["red"]], prompts)
    (expected,) = classify_images(ready, [IMAGES["red"]], PROMPTS)
    assert [guess.name for guess in found.guesses] == ["red", "blue"] and found.num_nearest == 1
    ratio = found.guesses[0].probability / found.guesses[1].probability
    of_red, of_blue = (g.probability for g in expected.guesses if g.name != "green")
    assert ratio == pytest.approx(of_red / of_blue, rel=1e-4)


def test_answers_are_plain_values_of_strict_json(classifier):
    answers = classifier.answers([IMAGES["red"], b"", BadSample("x", "y", "z")], top=1)
    found = [json.loads(json.dumps(answer.to_dict(), allow_nan=False)) for answer in answers]
    assert found[0] == {
        "image": "image 0", "predicted": "red", "num_nearest": 1,
        "classes": [
            {
                "rank": 1, "class": "red", "probability": found[0]["classes"][0]["probability"],
                "cosine": pytest.approx(1.0, abs=1e-5),
            }
        ],
    }  # fmt: skip
    assert found[1] == {
        "image": "image 1",
        "skipped": "unusable image",
        "detail": "the file is empty",
    }
    assert found[2] == {"image": "x", "skipped": "y", "detail": "z"}


def test_features_that_are_not_finite_are_no_answer(ready):
    classifier = ImageClassifier.of(ready, PROMPTS)

    class Diverged(torch.nn.Module):
        logit_scale = ready.model.logit_scale

        def forward(self, images, tokens):
            return torch.full((len(images), 16), float("nan")), None

    diverged = replace(classifier, ready=replace(ready, model=Diverged()))
    (found,) = diverged.answers([IMAGES["red"]])
    assert found.skipped.reason == "features that are not finite" and not found.guesses


@pytest.mark.parametrize(
    "images, prompts, settings, error, message",
    [
        ("red.png", PROMPTS, {}, TypeError, "a single one: 'red.png'"),
        ([], PROMPTS, {"top": 0}, ValueError, "top must be at least 1, got 0"),
        ([], make_class_prompts(["red", "red"], ["{}"]), {}, ValueError, "at least two classes"),
        ([], ClassPrompts(("red",), (("red",),), ""), {}, ValueError, "at least two classes"),
    ],
)
def test_arguments_are_checked_by_the_call(ready, images, prompts, settings, error, message):
    with pytest.raises(error, match=message):
        classify_images(ready, images, prompts, **settings)


def test_a_batch_of_images_of_all_sizes_and_modes_is_classified(classifier):
    modes = ("1", "L", "RGB", "P", "CMYK", "I;16", "RGBA")
    files = [
        encoded(random_image(mode, 20 + 9 * i, 50 - 7 * i), "TIFF") for i, mode in enumerate(modes)
    ]
    found = list(classifier.answers(files, batch_size=len(files)))
    assert all(answer.predicted for answer in found)
    assert len({answer.guesses[0].cosine for answer in found}) == len(files)
