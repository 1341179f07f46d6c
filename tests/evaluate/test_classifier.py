"""Classes as columns, beside open_clip's, whatever the batches that prompts are encoded in."""

from dataclasses import replace

import pytest
import torch

from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.class_prompts import ClassPrompts, make_class_prompts
from fastclip.evaluate.classifier import encode_classes
from fastclip.evaluate.zero_shot_classifier import build_zero_shot_classifier
from fastclip.models.inference import open_model
from tests.support.peers import open_clip
from tests.support.ready import tiny_directory

NAMES = ["cat", "a small grey dog", "house", "tree", "cat"]
TEMPLATES = ["a photo of a {}.", "{}", "the {0}, which is a {0}"]


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return open_model(tiny_directory(tmp_path_factory.mktemp("model") / "tiny"), device="cpu")


def encoded(ready, prompts, chunk=256, progress=lambda num: None):
    return encode_classes(Encoder.of(ready, progress), ready.tokenizer, prompts, chunk)


@pytest.mark.parametrize("chunk", [1, 4, 256])
def test_columns_are_those_of_open_clip(ready, chunk):
    found = encoded(ready, make_class_prompts(NAMES, TEMPLATES), chunk)
    for build in (open_clip.build_zero_shot_classifier, build_zero_shot_classifier):
        expected = build(ready.model, ready.tokenizer, NAMES, TEMPLATES)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.shape == (16, 5) and found.dtype == torch.float32 and not found.requires_grad
    assert torch.equal(found[:, 0], found[:, 4])


def test_classes_may_have_different_numbers_of_prompts(ready):
    cat, dog = ("a cat", "two cats, one of which is asleep"), ("a dog",)
    found = encoded(ready, ClassPrompts(("cat", "dog"), (cat, dog), "by hand"))
    with torch.no_grad():
        rows = ready.model.encode_text(ready.tokenizer([*cat, *dog]), normalize=True)
    expected = torch.stack([rows[:2].mean(0), rows[2]], 1)
    torch.testing.assert_close(found, expected / expected.norm(dim=0), rtol=1e-5, atol=1e-6)


def test_each_text_is_encoded_once_and_beside_texts_of_its_length(ready):
    batches = []

    def tokenizer(texts):
        batches.append(texts)
        return ready.tokenizer(texts)

    told = []
    prompts = make_class_prompts(NAMES, TEMPLATES)
    encode_classes(Encoder.of(ready, told.append), tokenizer, prompts, chunk=5)
    texts = [text for batch in batches for text in batch]
    assert sorted(texts) == sorted({text for own in prompts.prompts for text in own})
    assert list(map(len, texts)) == sorted(map(len, texts)) and told == [5, 5, 2]


def test_names_that_the_tokenizer_does_not_tell_apart_have_equal_columns(ready):
    class Rounding(torch.nn.Module):
        """Features that differ from batch to batch in a last bit, as those of products do."""

        scale = 1.0

        def forward(self, images, tokens):
            self.scale *= 1 + 1e-6
            rows = torch.stack([tokens.sum(1), tokens.max(1).values * self.scale], 1)
            return None, torch.nn.functional.normalize(rows.float())

    encoder = replace(Encoder.of(ready), model=Rounding())
    prompts = make_class_prompts(["cat", "dog", "CAT"], ["{}", "a photo of   a {}"])
    found = encode_classes(encoder, ready.tokenizer, prompts, chunk=1)
    assert torch.equal(found[:, 0], found[:, 2])
    assert not torch.equal(found[:, 0], found[:, 1])


def test_prompts_of_a_model_that_has_diverged_are_refused(ready):
    class Diverged(torch.nn.Module):
        def forward(self, images, tokens):
            return None, torch.full((len(tokens), 4), float("nan"))

    encoder = replace(Encoder.of(ready), model=Diverged())
    with pytest.raises(ValueError, match="not finite"):
        encode_classes(encoder, ready.tokenizer, make_class_prompts(["cat"], ["{}"]))
