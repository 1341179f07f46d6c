"""`fastclip convert`, from every layout to every other one."""

import re
from dataclasses import replace

import pytest
import torch

from fastclip.cli import main
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.factory import create_model
from fastclip.models.open_clip_config import to_json
from tests.support.small_models import SMALL, build, inputs


@pytest.fixture(params=["quick_gelu", "siglip"])
def model(request):
    return build(SMALL[request.param])


def convert(*arguments) -> int:
    return main(["convert", *map(str, arguments)])


def layouts_of(model):
    is_siglip = model.config == SMALL["siglip"]
    return ("hf", "checkpoint") if is_siglip else ("open_clip", "hf", "openai", "checkpoint")


def write(model, layout, path):
    if layout == "checkpoint":
        content = {"state_dict": model.state_dict(), "model_config": to_json(model.config)}
        torch.save(content, path)
    else:
        save_pretrained(model, path, layout=layout)


def test_every_layout_becomes_every_other_without_a_changed_bit(model, tmp_path, capsys):
    state = model.state_dict()
    targets = [layout for layout in layouts_of(model) if layout != "checkpoint"]
    for source in layouts_of(model):
        write(model, source, tmp_path / source)
        told = ["--activation", "quick_gelu", "--heads", 2] if source == "openai" else []
        for target in targets:
            destination = tmp_path / f"{source}-{target}"
            assert convert(tmp_path / source, destination, "--to", target, *told) == 0
            tensors = read_stored_model(destination).tensors
            assert tensors.keys() == state.keys()
            assert all(torch.equal(tensors[name], state[name]) for name in state)
            said = capsys.readouterr().out
            assert re.search(r"wrote .*: [\d,]+ parameters, (quick_gelu|gelu_tanh)\n", said)
            assert ("no tokenizer was written" in said) == (target == "hf")


def test_name_tells_the_architecture_of_bare_weights(tmp_path, monkeypatch):
    from fastclip.models import registry

    monkeypatch.setitem(registry.architectures, "Small", SMALL["vit"])
    torch.save(build(SMALL["vit"]).state_dict(), tmp_path / "weights.pt")
    assert convert(tmp_path / "weights.pt", tmp_path / "out", "--to", "hf", "--model", "Small") == 0
    assert read_stored_model(tmp_path / "out").config == SMALL["vit"]


def test_tokenizer_files_beside_the_weights_come_along(tmp_path, capsys):
    model = build(SMALL["quick_gelu"])
    save_pretrained(model, tmp_path / "source", layout="hf")
    (tmp_path / "source" / "vocab.json").write_text("{}")
    assert convert(tmp_path / "source", tmp_path / "out", "--to", "hf") == 0
    assert (tmp_path / "out" / "vocab.json").read_text() == "{}"
    assert "no tokenizer" not in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["open_clip", "hf"])
def test_missing_vocabulary_is_said_with_the_ways_to_get_it(
    layout, no_vocabulary, tmp_path, monkeypatch, capsys
):
    from fastclip.models import registry

    text = replace(SMALL["vit"].text_cfg, vocab_size=49408)
    config = replace(SMALL["vit"], text_cfg=text)
    monkeypatch.setitem(registry.architectures, "Small", config)
    torch.save(build(config).state_dict(), tmp_path / "a.pt")
    assert convert(tmp_path / "a.pt", tmp_path / "out", "--to", layout, "--model", "Small") == 0
    said = capsys.readouterr().out
    assert "no tokenizer was written: OpenAI's vocabulary" in said and "open_clip_torch" in said
    assert read_stored_model(tmp_path / "out").tensors.keys() == build(config).state_dict().keys()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--to", "hf"], "which activation"),
        (["--to", "openai", "--activation", "gelu", "--heads", 2], "trained with activation gelu"),
        (["--to", "hf", "--model", "ViT-B-33"], "no model 'ViT-B-33'"),
        (["--to", "hf", "--model", "ViT-B-32"], "of another shape"),
        (
            ["--to", "hf", "--model", "ViT-B-32", "--activation", "gelu"],
            "cannot be given with --model",
        ),
        (
            ["--to", "hf", "--model", "ViT-B-32", "--heads", 2],
            "--heads cannot be given with --model",
        ),
        (["--to", "hf", "--activation", "gelu"], "how many attention heads"),
        (["--to", "hf", "--activation", "gelu", "--heads", 2, 2, 2], "--heads takes one value or"),
        (["--to", "hf", "--activation", "gelu", "--heads", 3], "must divide its width 128, got 3"),
    ],
)
def test_failure_is_one_message_and_leaves_nothing(options, message, tmp_path, capsys):
    torch.save(build(SMALL["vit"]).state_dict(), tmp_path / "weights.pt")
    assert convert(tmp_path / "weights.pt", tmp_path / "out", *options) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fastclip convert: ") and message in captured.err
    assert captured.out == "" and not (tmp_path / "out").exists()


def test_missing_damaged_and_present_places_are_named(tmp_path, capsys):
    assert convert(tmp_path / "nothing.pt", tmp_path / "out", "--to", "hf") == 2
    assert "no file" in capsys.readouterr().err
    (tmp_path / "page.pt").write_text("<html>")
    assert convert(tmp_path / "page.pt", tmp_path / "out", "--to", "hf") == 2
    assert "neither a safetensors file nor" in capsys.readouterr().err
    save_pretrained(build(SMALL["vit"]), tmp_path / "model")
    assert convert(tmp_path / "model", tmp_path / "model", "--to", "hf") == 2
    assert "exists" in capsys.readouterr().err


def test_help_names_the_layouts(capsys):
    with pytest.raises(SystemExit) as raised:
        convert("--help")
    assert raised.value.code == 0
    assert "{open_clip,hf,hf_vision,openai}" in capsys.readouterr().out


# Heads that the weights do not say


OWN = ClipConfig(
    64,
    VisionConfig(32, patch_size=8, width=128, layers=2, head_width=32),
    TextConfig(16, 512, width=128, heads=2, layers=2),
)


@pytest.fixture
def own(tmp_path):
    """A model with another number of heads in each tower, both unlike width / 64, and its file."""
    model = build(replace(OWN, text_cfg=replace(OWN.text_cfg, heads=8)))
    torch.save(model.state_dict(), tmp_path / "own.pt")
    return model, tmp_path / "own.pt"


@pytest.mark.parametrize("layout", ["hf", "open_clip"])
def test_heads_that_are_told_give_the_own_features(layout, own, tmp_path, capsys):
    model, path = own
    told = ["--activation", "gelu", "--heads", 4, 8]
    assert convert(path, tmp_path / "out", "--to", layout, *told) == 0
    said = capsys.readouterr().out
    assert "inferred: 4 heads in the vision tower and 8 in the text tower, square images" in said
    again = create_model(str(tmp_path / "out")).eval()
    assert again.config == model.config
    images, tokens = inputs(model.config)
    with torch.no_grad():
        assert torch.equal(again.encode_image(images), model.encode_image(images))
        assert torch.equal(again.encode_text(tokens), model.encode_text(tokens))


def test_heads_that_are_not_told_are_asked_for_and_nothing_is_written(own, tmp_path, capsys):
    _, path = own
    assert convert(path, tmp_path / "out", "--to", "hf", "--activation", "gelu") == 2
    message = capsys.readouterr().err
    assert "the vision tower has width 128" in message and "--heads" in message
    assert not (tmp_path / "out").exists()


def test_openais_code_would_split_heads_of_its_own_so_they_are_refused(own, tmp_path, capsys):
    _, path = own
    told = ["--activation", "quick_gelu", "--heads", 4, 8]
    assert convert(path, tmp_path / "out", "--to", "openai", *told) == 2
    assert "openai/CLIP would build a different model" in capsys.readouterr().err


def test_activations_of_two_towers_are_told_one_after_the_other(tmp_path):
    config = replace(OWN, vision_cfg=replace(OWN.vision_cfg, activation="quick_gelu"))
    torch.save(build(config).state_dict(), tmp_path / "own.pt")
    told = ["--activation", "quick_gelu", "gelu", "--heads", 4, 2]
    assert convert(tmp_path / "own.pt", tmp_path / "out", "--to", "hf", *told) == 0
    assert read_stored_model(tmp_path / "out").config == config
