"""A model for images of any aspect ratio, asked by everything that encodes images."""

from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.cli import main
from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.folder import FolderSource
from fastclip.embeddings import embed, open_embeddings
from fastclip.embeddings.encode import Encoder
from fastclip.embeddings.token_budget import TokenBudgetEncoder
from fastclip.evaluate.class_prompts import make_class_prompts
from fastclip.evaluate.image_classifier import classify_images
from fastclip.models import registry
from fastclip.models.inference import open_model
from fastclip.search.encoding import vectors_of_images
from tests.support.images import random_image
from tests.support.ready import TINY_NAFLEX, naflex_checkpoint, tiny_directory

# Width and height: grids of 4 x 4, 2 x 8, 8 x 2, 3 x 5 and 1 x 16 patches.
SIZES = [(90, 90), (400, 100), (40, 160), (50, 30), (640, 10)]
TOLERANCE = dict(rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return naflex_checkpoint(tmp_path_factory.mktemp("model") / "naflex.pt")


@pytest.fixture(scope="module")
def ready(checkpoint):
    return open_model(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, (width, height) in enumerate(SIZES * 2):
        path = folder / f"{number}.png"
        random_image("RGB", width, height, seed=number).save(path)
        path.with_suffix(".txt").write_text(f"number {number}")
    return folder


@pytest.fixture(scope="module")
def paths(folder):
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="module")
@torch.no_grad()
def expected(ready, paths):
    """The features of the images, each of which is encoded alone."""
    alone = [ready.prepare(ready.transform(path)[None]) for path in paths]
    assert len({tuple(image.shape) for image in alone}) == len(SIZES)
    return torch.cat([ready.model.encode_image(image, normalize=True) for image in alone])


@pytest.mark.parametrize("max_tokens, pool_size", [(64, 1024), (16, 3)])
def test_budget_of_tokens_changes_no_feature(max_tokens, pool_size, ready, paths, expected):
    encoder = TokenBudgetEncoder(ready, max_tokens, pool_size)
    given = [*paths, b"no image"]
    batches = list(encoder.images(given))
    numbers = [number for batch in batches for number in batch.numbers]
    assert sorted(numbers) == list(range(10)) and numbers != sorted(numbers)
    found = torch.cat([batch.features for batch in batches])
    torch.testing.assert_close(found, expected[numbers], **TOLERANCE)
    assert [(bad.key, bad.reason) for bad in encoder.skipped] == [("image 10", "unusable image")]
    padding = encoder.padding
    assert (padding.num_images, padding.num_batches) == (10, len(batches))
    assert padding.num_patches == 2 * (16 + 16 + 16 + 15 + 16) <= padding.num_tokens


def test_padding_counts_a_batch_before_it_is_handed_over(ready, paths):
    encoder = TokenBudgetEncoder(ready, max_tokens=32)
    with closing(encoder.images(paths)) as batches:
        for number, _ in enumerate(batches, 1):
            assert encoder.padding.num_batches == number
            if number == 2:
                break
    assert encoder.padding == (4, 2, 64, 64)  # 2 x 2 images of 16 patches, of 10


def test_settings_of_a_budget_are_refused_by_name(ready, tmp_path):
    with pytest.raises(ValueError, match=r"max_tokens must be at least 16, the most .* got 15"):
        TokenBudgetEncoder(ready, 15)
    with pytest.raises(ValueError, match="pool_size must be at least 1, got 0"):
        TokenBudgetEncoder(ready, pool_size=0)
    other = open_model(tiny_directory(tmp_path / "tiny"), device="cpu")
    with pytest.raises(ValueError, match="takes images of one size, which need no budget"):
        TokenBudgetEncoder(other)
    images = [torch.zeros(3, 32, 32).byte(), torch.zeros(3, 32, 16).byte()]
    with pytest.raises(ValueError, match=r"images must have one size for .*\(3, 32, 16\)"):
        other.prepare(images)


def test_folder_of_embeddings_has_the_same_features(ready, folder, paths, expected, tmp_path):
    settings = dict(batch_size=4, workers=2, metadata="jsonl")
    state = embed(ready, folder, tmp_path / "out", **settings)
    assert state.padding[:2] == (10, 3) and state.padding.num_patches == 158
    stored = open_embeddings(tmp_path / "out", verify=True)
    assert stored.manifest.model.preprocess_cfg["max_num_patches"] == 16
    vectors = stored.images.rows(range(len(paths)))
    np.testing.assert_allclose(vectors, expected.numpy(), **TOLERANCE)


@pytest.mark.parametrize("texts", [False, True])
def test_forwards_of_a_folder_stay_within_a_budget(texts, ready, folder, expected, tmp_path):
    settings = dict(batch_size=10, workers=2, metadata="jsonl", images=True, texts=texts)
    state = embed(ready, folder, tmp_path / "out", max_tokens=32, **settings)
    assert state.padding.num_images == 10 and state.padding.num_batches == 5
    stored = open_embeddings(tmp_path / "out", verify=True)
    np.testing.assert_allclose(stored.images.rows(range(10)), expected.numpy(), **TOLERANCE)
    assert (stored.texts is not None) == texts
    with pytest.raises(ValueError, match="max_tokens"):
        embed(ready, folder, tmp_path / "out", max_tokens=64, resume=True, **settings)
    with pytest.raises(ValueError, match="max_tokens must be at least 16"):
        embed(ready, folder, tmp_path / "other", max_tokens=8, **settings)


def test_budget_is_refused_where_no_image_is_embedded(ready, folder, tmp_path):
    with pytest.raises(ValueError, match=r"max_tokens must be None if no image .* got 32"):
        embed(ready, folder, tmp_path / "out", max_tokens=32, texts=True, metadata="jsonl")
    assert not (tmp_path / "out").exists()


def test_queries_and_classes_have_the_same_features(ready, paths, expected):
    np.testing.assert_allclose(vectors_of_images(ready, paths), expected.numpy(), **TOLERANCE)
    prompts = make_class_prompts(["cat", "dog"], ["a photo of a {}."])
    together = list(classify_images(ready, paths, prompts))
    for path, answer in zip(paths, together, strict=True):
        (alone,) = classify_images(ready, [path], prompts)
        cosines = [[guess.cosine for guess in each.guesses] for each in (answer, alone)]
        np.testing.assert_allclose(*cosines, **TOLERANCE)


@pytest.mark.parametrize("num_workers, batch_size", [(0, 4), (2, 3)])
def test_loader_hands_over_images_of_different_sizes(
    num_workers, batch_size, ready, folder, paths, expected
):
    loader = PairLoader(
        FolderSource(folder), ready.transform, ready.tokenizer, batch_size=batch_size,
        shuffle_buffer=1, drop_last=False, num_workers=num_workers, pin_memory=False,
    )  # fmt: skip
    with closing(loader):
        batches = list(loader)
    assert [len(batch.images) for batch in batches] == [batch_size] * (10 // batch_size) + [
        10 % batch_size
    ]
    found = list(Encoder.of(ready).pairs(batches))
    keys = [key for batch in batches for key in batch.keys]
    places = [int(key.split("/")[-1].split(".")[0]) for key in keys]
    assert sorted(places) == list(range(10))
    features = torch.cat([batch.image_features for batch in found])
    torch.testing.assert_close(features, expected[places], **TOLERANCE)


def test_evaluation_takes_images_of_different_sizes(checkpoint, folder, tmp_path, capsys):
    for number, path in enumerate(sorted(folder.glob("*.png"))):
        target = tmp_path / "set" / ("cat" if number % 2 else "dog") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    argv = ["eval", str(checkpoint), "--data", str(tmp_path / "set"), "--device", "cpu"]
    assert main([*argv, "--batch-size", "4", "--workers", "0"]) == 0
    assert "zero-shot classification, 10 images" in capsys.readouterr().out


@pytest.mark.slow
def test_training_is_refused_with_what_to_do(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(registry.architectures, "tiny-naflex", TINY_NAFLEX)
    argv = ["train", "--model", "tiny-naflex", "--train-data", str(folder), "--device", "cpu"]
    argv += ["--logs", str(tmp_path), "--name", "run", "--epochs", "1", "--batch-size", "4"]
    argv += ["--val-data", str(folder), "--workers", "0"]
    assert main(argv) == 2
    said = capsys.readouterr().err
    advice = "--image-resize-mode squash"
    assert f"{advice} trains and evaluates the model on images of 64 x 64 pixels" in said
    assert main([*argv, *advice.split()]) == 0
    trained = open_model(tmp_path / "run", device="cpu")
    assert trained.preprocess_cfg["resize_mode"] == "squash"
    assert trained.transform(Image.new("RGB", (90, 20))).shape == (3, 64, 64)
