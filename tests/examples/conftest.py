"""Examples are run in this process, from their `main`, with models of a few seconds of training."""

import importlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fastclip.data.digits.grids import CELL_NAMES, place_alone
from fastclip.data.digits.images import (
    DIGIT_MEAN,
    DIGIT_STD,
    DIGIT_WORDS,
    load_digits,
    split_by_image,
)
from fastclip.models.digits import build_digits_model
from fastclip.models.inference import InferenceModel
from fastclip.models.open_clip_config import to_json
from fastclip.models.tower_precision import TowerPrecision

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(scope="session")
def example() -> Callable[[str], Any]:
    """Imports an example, or a module beside it, by its name."""
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="session")
def output(tmp_path_factory) -> Path:
    """One folder for all, in which what one example has trained is found by the next."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def run(example, output) -> Callable[..., Any]:
    """Runs an example with arguments; returns what its `main` does, once its figure is a PNG."""

    def call(name: str, *argv: str) -> Any:
        figure = output / f"{name}.png"
        figure.unlink(missing_ok=True)
        found = example(name).main([*argv, "--output", str(output)])
        with Image.open(figure) as image:
            image.load()
            assert image.format == "PNG" and min(image.size) > 300
            assert len(image.convert("L").getcolors(256)) > 10  # something is drawn
        return found

    return call


@pytest.fixture(scope="session")
def digits_checkpoint(example, output) -> Path:
    """A model of digits that stand alone, which it learns sooner than those of the demo."""
    torch.manual_seed(0)
    model, tokenizer = build_digits_model()
    cfg = {"mean": DIGIT_MEAN, "std": DIGIT_STD}
    precision = TowerPrecision("fp32", torch.device("cpu"))
    ready = InferenceModel("digits", model, tokenizer, None, cfg, precision)
    digits, _ = split_by_image(load_digits())
    by_digit = [digits.images[digits.labels == digit] for digit in range(10)]
    cells = torch.arange(len(CELL_NAMES)).repeat_interleave(10)
    captions = [f"{cell} {word}" for cell in CELL_NAMES for word in DIGIT_WORDS]

    def draw(chance: random.Random) -> tuple[torch.Tensor, list[str]]:
        images = [chance.choice(of_digit) for _ in CELL_NAMES for of_digit in by_digit]
        return place_alone(torch.stack(images), cells), captions

    example("small_clip").train(ready, draw, steps=45)
    path = output / "digits.pt"
    content = {"state_dict": model.state_dict(), "model_config": to_json(model.config)}
    torch.save(content | {"config": {"model": "digits"}}, path)
    return path
