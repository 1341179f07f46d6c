import pytest
import torch

from fastclip.data.digits.grids import IMAGE_SIZE, DigitGrids, is_held_out
from fastclip.data.digits.images import load_digits, split_by_image
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.demo.evaluation import evaluate_digits
from fastclip.models.clip import CLIP
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig


@pytest.fixture(scope="module")
def split():
    return split_by_image(load_digits())


@pytest.fixture(scope="module")
def tokenizer(split):
    return WordTokenizer.learn(DigitGrids(split[0]).draw(500, torch.Generator()).captions)


def untrained(tokenizer):
    torch.manual_seed(0)
    vision = VisionConfig(IMAGE_SIZE, patch_size=8, width=16, layers=1, head_width=8, channels=1)
    text = TextConfig(tokenizer.context_length, tokenizer.vocab_size, width=16, heads=2, layers=1)
    return CLIP(ClipConfig(16, vision, text))


class Oracle(torch.nn.Module):
    """Knows the digits by heart: features are what stands in each cell, from either side."""

    def __init__(self, digits, tokenizer):
        super().__init__()
        self.label_of = {
            bytes(image.flatten().tolist()): label.item()
            for image, label in zip(*digits, strict=True)
        }
        self.tokenizer = tokenizer

    def forward(self, images, tokens):
        return (
            None if images is None else self.encode_image(images),
            None if tokens is None else self.encode_text(tokens),
        )

    def encode_image(self, images):
        pixels = ((images * 0.376 + 0.305) * 255).round().to(torch.uint8)
        features = torch.zeros(len(images), 6, 10)
        for i, image in enumerate(pixels[:, 0]):
            for cell in range(6):
                y, x = 8 * (cell // 3), 8 * (cell % 3)
                label = self.label_of.get(bytes(image[y : y + 8, x : x + 8].flatten().tolist()))
                if label is not None:
                    features[i, cell, label] = 1
        return torch.nn.functional.normalize(features.flatten(1))

    def encode_text(self, tokens):
        rows, columns = ["top", "bottom"], ["left", "middle", "right"]
        names = "zero one two three four five six seven eight nine".split()
        features = torch.zeros(len(tokens), 6, 10)
        for i, text in enumerate(tokens):
            words = self.tokenizer.decode(text).split()
            for row, column, name in zip(words[::3], words[1::3], words[2::3], strict=True):
                features[i, 3 * rows.index(row) + columns.index(column), names.index(name)] = 1
        return torch.nn.functional.normalize(features.flatten(1))


def test_oracle_gets_everything_right(split, tokenizer):
    _, test = split
    found = evaluate_digits(Oracle(test, tokenizer), tokenizer, test, num_pairs=200)
    assert (found.retrieval.image_to_text == 1).all()
    assert (found.retrieval.text_to_image == 1).all()
    assert torch.equal(found.retrieved, torch.arange(200))
    assert (found.digit_accuracy, found.num_digits) == (1.0, len(test.labels))


def test_untrained_model_is_at_chance(split, tokenizer):
    found = evaluate_digits(untrained(tokenizer), tokenizer, split[1])
    assert (found.retrieval.image_to_text <= 5).double().mean() < 0.05
    assert found.digit_accuracy < 0.35


def test_evaluation_uses_held_out_arrangements_and_is_repeatable(split, tokenizer):
    model = untrained(tokenizer)
    first, again = (evaluate_digits(model, tokenizer, split[1], num_pairs=50) for _ in range(2))
    assert is_held_out(first.pairs.arrangements).all()
    assert torch.equal(first.retrieved, again.retrieved)
    assert first.digit_accuracy == again.digit_accuracy


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_the_model_in_the_mode_it_was_in(split, tokenizer, training):
    model = untrained(tokenizer).train(training)
    evaluate_digits(model, tokenizer, split[1], num_pairs=10)
    assert model.training is training
