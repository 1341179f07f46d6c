"""What a person has of a trained model is opened with the tokenizer and the images that it had."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastclip.cli import main
from fastclip.data.digits.source import DigitSource
from fastclip.embeddings.encode import Encoder
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.inference import open_model
from tests.support.ready import TINY, digits_checkpoint, tiny_directory
from tests.support.runs import arguments

WORDS = ["top left zero", "bottom right nine"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tiny_directory(tmp_path_factory.mktemp("tiny") / "model", mean=(0.1, 0.2, 0.3))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return digits_checkpoint(tmp_path_factory.mktemp("digits") / "checkpoint.pt")


def features(ready, image, texts):
    with torch.no_grad():
        found = ready.model(ready.prepare(ready.transform(image)[None]), ready.tokenizer(texts))
    return found[:2]


def test_a_directory_is_opened_with_its_own_images_and_tokens(directory, tmp_path):
    ready = open_model(directory, device="cpu")
    assert not ready.model.training and ready.name == str(directory)
    assert ready.preprocess_cfg["mean"] == (0.1, 0.2, 0.3)
    Image.new("RGB", (50, 40), (200, 30, 10)).save(tmp_path / "red.png")
    images, texts = features(ready, tmp_path / "red.png", ["a cat"])
    torch.testing.assert_close(images.norm(dim=1), torch.ones(1))
    assert texts.shape == (1, TINY.embed_dim)


def test_pixels_are_normalised_as_the_model_says(directory):
    ready = open_model(directory, device="cpu")
    black = ready.prepare(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    std = torch.tensor(ready.preprocess_cfg["std"])
    torch.testing.assert_close(black[0, :, 0, 0], -torch.tensor([0.1, 0.2, 0.3]) / std)


def test_a_checkpoint_of_the_digits_reads_their_captions_and_image_files(checkpoint, tmp_path):
    ready = open_model(checkpoint, device="cpu")
    sample = DigitSource(held_out=True, num_samples=4).load(0)
    Image.fromarray(sample.image[0].numpy()).save(tmp_path / "grid.png")
    assert torch.equal(ready.transform(tmp_path / "grid.png"), sample.image)
    images, texts = features(ready, tmp_path / "grid.png", [sample.caption, *WORDS])
    assert images.shape == (1, 128) and len(texts.unique(dim=0)) == 3


def test_the_directory_of_a_run_gives_its_newest_checkpoint(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    names = ("step_000000009.pt", "step_000000100.pt", "epoch_3.pt", "epoch_3_ema.pt")
    for seed, name in enumerate(names):
        digits_checkpoint(tmp_path / "run" / "checkpoints" / name, seed)
    ready = open_model(tmp_path / "run", device="cpu")
    newest = open_model(tmp_path / "run" / "checkpoints" / "step_000000100.pt", device="cpu")
    older = open_model(tmp_path / "run" / "checkpoints" / "step_000000009.pt", device="cpu")
    assert ready.digests.weights == newest.digests.weights != older.digests.weights
    assert ready.digests[1:] == older.digests[1:]


def test_images_that_are_decoded_fast_are_another_preparation(directory, checkpoint):
    exact = open_model(directory, device="cpu")
    fast = exact.with_decoding("fast")
    assert fast.transform.decode == "fast" and exact.with_decoding("exact") is exact
    assert fast.digests.preprocess != exact.digests.preprocess
    assert fast.digests._replace(preprocess="") == exact.digests._replace(preprocess="")
    with pytest.raises(ValueError, match="decode must be one of"):
        exact.with_decoding("quick")
    with pytest.raises(ValueError, match="decode must be 'exact' for the images of"):
        open_model(checkpoint, device="cpu").with_decoding("fast")


def test_the_same_weights_with_another_activation_are_another_model(directory, tmp_path):
    other = shutil.copytree(directory, tmp_path / "other")
    path = other / "open_clip_config.json"
    path.write_text(path.read_text().replace('"embed_dim"', '"quick_gelu": true, "embed_dim"', 1))
    one, other = (open_model(place, device="cpu").digests for place in (directory, other))
    assert one.weights == other.weights and one.configuration != other.configuration
    assert one[1:3] == other[1:3]


def test_a_run_keeps_what_its_images_and_tokens_were(directory, tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (40, 30), (90, 0, 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "pairs.csv").write_text("filepath\ttitle\na.png\tone\nb.png\ttwo\n")
    changes = {
        "train-data": tmp_path / "pairs.csv", "model": f"local-dir:{directory}", "epochs": 2,
        "global-batch-size": 2, "micro-batch-size": 2, "image-std": 0.5, "warmup": 0,
    }  # fmt: skip
    argv = arguments(tmp_path, "run", **changes)
    for unused in ("--train-num-samples", "--force-patch-dropout"):
        at = argv.index(unused)
        del argv[at : at + 2]
    assert main(argv) == 0
    trained = open_model(tmp_path / "run", device="cpu")
    average = open_model(tmp_path / "run" / "checkpoints" / "epoch_2_ema.pt", device="cpu")
    assert trained.preprocess_cfg["std"] == (0.5,) * 3
    assert trained.preprocess_cfg["mean"] == (0.1, 0.2, 0.3)
    assert average.digests[1:] == trained.digests[1:]
    assert average.digests.weights != trained.digests.weights


@pytest.mark.parametrize(
    "name, pretrained, error, message",
    [
        ("ViT-B-32", None, ValueError, "without weights.*tags of ViT-B-32: openai"),
        ("ViT-B-33", None, ValueError, "ViT-B-32"),
        ("logs/gone/epoch_1.pt", None, FileNotFoundError, "no file or directory logs/gone"),
        ("gone.pt", None, FileNotFoundError, "no file or directory gone.pt"),
    ],
)
def test_what_is_no_model_is_refused_by_name(name, pretrained, error, message):
    with pytest.raises(error, match=message):
        open_model(name, pretrained, device="cpu")


def test_weights_of_their_own_leave_no_room_for_others(checkpoint):
    with pytest.raises(ValueError, match="weights of its own"):
        open_model(checkpoint, "openai", device="cpu")


def test_a_file_that_does_not_tell_its_tokenizer_is_not_guessed_at(tmp_path):
    from fastclip.models.open_clip_config import to_json
    from tests.support.small_models import VIT, build

    content = {"state_dict": build(VIT).state_dict(), "model_config": to_json(VIT)}
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="which tokenizer its texts had"):
        open_model(tmp_path / "weights.pt", device="cpu")


def test_the_encoder_of_a_model_encodes_with_its_own_inputs(checkpoint):
    ready = open_model(checkpoint, device="cpu")
    seen = []
    encoder = Encoder.of(ready, seen.append)
    (found,) = encoder.texts(WORDS, ready.tokenizer, chunk=8)
    torch.testing.assert_close(found.text_features, features(ready, black(), WORDS)[1])
    assert seen == [2]


def black() -> Image.Image:
    return Image.new("L", (24, 16))
