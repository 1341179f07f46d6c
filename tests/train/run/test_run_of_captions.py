"""A run of a model that writes captions: both losses, its checkpoint, and what is refused."""

import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

import fastclip
from fastclip.cli import main
from fastclip.embeddings.encode import Encoder
from fastclip.models.build import build_model
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.coca.model import CoCa
from fastclip.train.run.loss import make_loss
from fastclip.train.settings.idle import idle_settings
from fastclip.train.settings.run_config import RunConfig
from tests.support.runs import final
from tests.support.small_models import COCA

TINY = replace(
    COCA, text_cfg=replace(COCA.text_cfg, context_length=12, vocab_size=49408),
    multimodal_cfg=replace(COCA.multimodal_cfg, context_length=12),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model and a table of images."""
    place = tmp_path_factory.mktemp("captions")
    torch.manual_seed(0)
    save_pretrained(build_model(TINY), place / "model")
    for i in range(8):
        Image.new("RGB", (40, 30), (37 * i % 256, 91 * i % 256, 77)).save(place / f"{i}.jpg")
    rows = "".join(f"{i}.jpg\tcaption {i}{' of it' * (i % 3)}\n" for i in range(8))
    (place / "pairs.csv").write_text("filepath\ttitle\n" + rows)
    return place


def train(made, logs, *flags, model=None, name="run"):
    return main([
        "train", "--train-data", str(made / "pairs.csv"), "--model",
        model or f"local-dir:{made / 'model'}", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--workers", "0", "--device", "cpu", "--precision", "fp32",
        "--log-every-n-steps", "1", "--logs", str(logs), "--name", name, *flags,
    ])  # fmt: skip


def test_both_losses_are_trained_and_logged_and_the_run_goes_on(made, tmp_path, capsys):
    flags = ["--epochs", "2", "--lr", "0.003", "--warmup", "0", "--coca-caption-loss-weight", "1.5"]
    assert train(made, tmp_path, *flags, "--val-data", str(made / "pairs.csv")) == 0
    said = capsys.readouterr().out
    assert "Contrastive_loss: " in said and "Caption_loss: " in said
    results = (tmp_path / "run/results.jsonl").read_text().splitlines()
    losses = [json.loads(line)["train_losses"] for line in results]
    assert losses[1]["caption_loss"] < losses[0]["caption_loss"]
    assert 0.9 * 1.5 * 10.8 < losses[0]["caption_loss"] < 1.1 * 1.5 * 10.8  # ln(49408) = 10.8
    first = tmp_path / "run/checkpoints/epoch_1.pt"
    flags += ["--resume", str(first)]
    assert train(made, tmp_path, *flags, "--val-data", str(made / "pairs.csv"), name="again") == 0
    whole, again = (final(tmp_path, name)["state_dict"] for name in ("run", "again"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    ready = fastclip.open_model(tmp_path / "run")
    assert type(ready.model) is CoCa and ready.model.config == TINY


def test_features_are_those_of_the_towers_and_the_decoder_has_no_part(made):
    ready = fastclip.open_model(made / "model")
    pixels = torch.stack([ready.transform(made / f"{i}.jpg") for i in range(3)])
    tokens = ready.tokenizer(["a", "caption of it", "b"])
    ready.model.text_decoder = None
    (found,) = Encoder.of(ready).pairs([(pixels, tokens, ["0", "1", "2"])])
    expected = ready.model.encode_image(ready.prepare(pixels)), ready.model.encode_text(tokens)
    assert torch.equal(found.image_features, expected[0])
    assert torch.equal(found.text_features, expected[1])


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--loss", "dcl"], "loss must be clip with local-dir:.*whose loss is the sum"),
        (["--siglip"], "loss must be clip with"),
        (["--matryoshka-dims", "16"], "matryoshka_dims must be left out with"),
        (["--loss", "dcl", "--coca-caption-loss-weight", "1"], "coca_caption_loss_weight must be"),
        (["--coca-caption-loss-weight", "-1"], "coca_caption_loss_weight must be finite and at"),
        (["--coca-caption-loss-weight", "0", "--coca-contrastive-loss-weight", "0"], "above 0"),
    ],
)
def test_what_does_not_go_with_captions_is_refused_by_name(flags, message, made, tmp_path, capsys):
    assert train(made, tmp_path, *flags) == 2
    assert re.search(message, capsys.readouterr().err)


def test_weights_of_captions_are_refused_where_none_are_written(made, tmp_path, capsys):
    plain = replace(
        TINY, multimodal_cfg=None, vision_cfg=replace(TINY.vision_cfg, output_tokens=False),
        text_cfg=replace(TINY.text_cfg, output_tokens=False),
    )  # fmt: skip
    save_pretrained(build_model(plain), tmp_path / "plain")
    model = f"local-dir:{tmp_path / 'plain'}"
    assert train(made, tmp_path, "--coca-contrastive-loss-weight", "0.5", model=model) == 2
    assert "writes no captions" in capsys.readouterr().err


def test_teachers_whose_embeddings_are_stored_are_refused_too():
    config = RunConfig(model="ours", distill_embeddings="embeddings")
    with pytest.raises(ValueError, match="distill_embeddings must be left out with ours"):
        make_loss(config, build_model(TINY))


def test_what_belongs_to_a_contrastive_loss_that_is_left_out_has_no_effect():
    config = RunConfig(coca_contrastive_loss_weight=0.0, margin=0.1, mask_duplicates="caption")
    assert idle_settings(config).keys() == {"margin", "mask_duplicates"}
