"""Small models of our own, tokens that are bytes, and architectures in files."""

import json

import pytest
import torch

import fastclip
from fastclip.data.tokenizers.openai_vocabulary import find_vocabulary
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.run_files import newest_of_run
from fastclip.models.checkpoints.write import _write_tokenizer
from fastclip.models.inference import open_model
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.presets import PRESETS
from fastclip.models.towers.vision_transformer.presets import SMALL

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1},
    "text_cfg": {
        "context_length": 24, "vocab_size": 514, "width": 64, "heads": 1, "layers": 1,
        "tokenizer_kwargs": {"vocabulary": "bytes"},
    },
}  # fmt: skip


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    return str(path)


@pytest.mark.parametrize("name", SMALL)
def test_small_models_need_no_vocabulary(name, no_vocabulary):
    config = PRESETS[name]
    side = int(name.rsplit("-", 1)[1])
    assert config.vision_cfg.image_size == (side, side) and name in fastclip.list_models()
    assert from_json(to_json(config)) == config
    tokens = fastclip.get_tokenizer(name)(["A cat", "naïve 東京"])
    assert tokens.shape == (2, 128) and int(tokens.max()) == config.text_cfg.vocab_size - 1


def test_smallest_model_computes_features(no_vocabulary):
    model, _, transform = fastclip.create_model_and_transforms("ViT-Mini-4-32")
    assert transform.cfg.size in (32, (32, 32))
    tokens = fastclip.get_tokenizer("ViT-Mini-4-32")(["a red star", "a blue circle"])
    images, texts, _ = model.eval()(torch.zeros(2, 3, 32, 32), tokens)
    assert images.shape == texts.shape == (2, 128)
    assert not torch.allclose(texts[0], texts[1])


def test_written_tokenizer_has_the_special_tokens_of_the_configuration(tmp_path, no_vocabulary):
    further = {"vocab_size": 515, "tokenizer_kwargs": {"vocabulary": "bytes",
               "additional_special_tokens": ["<box>"]}}  # fmt: skip
    config = from_json(TINY | {"text_cfg": TINY["text_cfg"] | further})
    _write_tokenizer(tmp_path, "hf", config, None)
    assert json.loads((tmp_path / "vocab.json").read_text())["<box>"] == 514


def test_tokenizer_that_keeps_case_is_not_written_as_one_that_does_not(tmp_path, no_vocabulary):
    kwargs = {"vocabulary": "bytes", "clean": "whitespace"}
    config = from_json(TINY | {"text_cfg": TINY["text_cfg"] | {"tokenizer_kwargs": kwargs}})
    with pytest.raises(CheckpointError, match="clean 'whitespace' has no place in transformers'"):
        _write_tokenizer(tmp_path, "hf", config, None)
    _write_tokenizer(tmp_path, "open_clip", config, None)  # whose configuration says it
    assert not list(tmp_path.iterdir())


def test_newest_of_run_takes_the_best_epoch_where_nothing_else_is_left(tmp_path):
    (folder := tmp_path / "checkpoints").mkdir()
    for name in ("epoch_best.pt", "epoch_latest.pt", "epoch_2.pt", "step_000000004.pt"):
        (folder / name).touch()
        assert newest_of_run(tmp_path) == folder / name


def test_bytes_are_tokens_of_every_text(no_vocabulary):
    tokenizer = fastclip.SimpleTokenizer(vocabulary="bytes")
    text = "a naïve cat, 東京: 3.14"
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.replace(" ", "").encode())
    assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")
    assert find_vocabulary("bytes").merges == ()


def test_file_is_an_architecture(tiny, no_vocabulary):
    model = fastclip.create_model(tiny)
    assert to_json(model.config) == to_json(from_json(TINY))
    assert fastclip.get_tokenizer(tiny)(["abc"]).shape == (1, 24)
    with pytest.raises(ValueError, match=r"tiny\.json' is the name of an architecture, without"):
        open_model(tiny)


def test_file_with_preprocessing_is_obeyed(tmp_path):
    path = tmp_path / "open_clip_config.json"
    values = {"model_cfg": TINY, "preprocess_cfg": {"mean": 0.5, "std": 0.25, "size": 99}}
    path.write_text(json.dumps(values))
    found = fastclip.create_model(str(path)).visual.preprocess_cfg
    assert found["mean"] == (0.5, 0.5, 0.5) and found["std"] == (0.25, 0.25, 0.25)
    assert found["size"] in (32, (32, 32), [32, 32])
    with pytest.raises(FileNotFoundError, match=r"random weights, give .*open_clip_config\.json"):
        fastclip.create_model(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    "content, error, words",
    [
        (None, FileNotFoundError, "there is no model configuration at"),
        ({"embed_dim": 3}, CheckpointError, "not a model configuration"),
        ({**TINY, "depth": 3}, CheckpointError, "depth"),
        ({**TINY, "text_cfg": {**TINY["text_cfg"], "vocab_size": 99}}, ValueError,
         "vocab_size 99 in text_cfg, fewer than the 514 tokens"),
        ({**TINY, "text_cfg": {"vocab_size": 99, "width": 64, "heads": 1}}, ValueError,
         "does not name its tokenizer"),
    ],
)  # fmt: skip
def test_file_that_is_none_is_refused(content, error, words, tmp_path):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(json.dumps(content))
    with pytest.raises(error, match=words):
        fastclip.create_model(str(path))
        fastclip.get_tokenizer(str(path))


def test_path_that_does_not_exist_is_named_with_its_neighbours(tmp_path):
    (tmp_path / "shapes").mkdir()
    with pytest.raises(ValueError, match=r"no model, file or folder .*: similar names .*shapes"):
        fastclip.get_model_config(str(tmp_path / "shpes"))
    with pytest.raises(ValueError, match="no model 'ViT-B-33': similar names are ViT-B-32"):
        fastclip.get_model_config("ViT-B-33")
