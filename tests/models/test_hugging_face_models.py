"""Models with a text tower of transformers: by name, written, read, and in every precision."""

import json
import socket
import sys
from dataclasses import replace

import pytest
import torch

import fastclip
from fastclip.cli import main
from fastclip.models import registry
from fastclip.models.build import build_model
from fastclip.models.checkpoints.errors import CheckpointError, KeyMismatchError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.checkpoints.load import load_checkpoint
from fastclip.models.checkpoints.stored_model import read_config, read_stored_model
from fastclip.models.clip_config import ClipConfig
from fastclip.models.digests import configuration_digest
from fastclip.models.open_clip_config import from_json, is_portable, to_json
from fastclip.models.precision import set_precision
from fastclip.models.registry import get_model_config
from fastclip.models.towers.hugging_face.config import HfTextConfig
from fastclip.models.towers.hugging_face.presets import presets
from fastclip.models.towers.hugging_face.published import ENCODERS
from fastclip.models.towers.vision_transformer.config import VisionConfig
from fastclip.models.unfilled import unfilled
from tests.support import hugging_face_towers as small
from tests.support.peers import open_clip, transformers

VISION = VisionConfig(16, 8, width=32, layers=1, head_width=16)
NAMES = list(presets())


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


def model_of(kind, place, **settings):
    torch.manual_seed(0)
    text = small.hf_text(kind, place, **settings)
    return build_model(ClipConfig(24, VISION, text, custom_text=True)).eval()


def inputs(model):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 16, 16, generator=generator), small.texts(model.config.text_cfg)


def equal(found, expected):
    return all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_full_size_state_dicts_are_open_clips(name, monkeypatch):
    """open_clip reads sizes by name: it is given ours, in place of what it would fetch."""

    def known(name, **settings):
        values = dict(ENCODERS[name])
        return transformers.AutoConfig.for_model(values.pop("model_type"), **values)

    monkeypatch.setattr(open_clip.hf_model.AutoConfig, "from_pretrained", known)
    with unfilled():
        ours = fastclip.create_model(name, device="meta")
        values = open_clip.get_model_config(name)
        values["text_cfg"]["hf_model_pretrained"] = False
        values.pop("custom_text", None)
        theirs = open_clip.CustomTextCLIP(**values)
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == expected


@pytest.mark.parametrize("kind", ["roberta", "m2m_100", "mt5"])
def test_what_is_written_is_read_without_its_folder(kind, tmp_path):
    model = model_of(kind, tmp_path, hf_pooler_type="cls_pooler", hf_proj_type="linear")
    fastclip.save_pretrained(model, tmp_path / "written")
    for file in (tmp_path / kind).iterdir():
        file.unlink()
    again = fastclip.create_model(f"local-dir:{tmp_path / 'written'}").eval()
    assert again.config == model.config == read_config(tmp_path / "written")
    assert equal(again(*inputs(model)), model(*inputs(model)))


def test_open_clip_reads_what_is_written(place, tmp_path):
    model = model_of("roberta", place)
    model.visual.preprocess_cfg = {"size": 16}
    fastclip.save_pretrained(model, tmp_path / "written")
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'written'}").eval()
    for found, expected in zip(theirs(*inputs(model)), model(*inputs(model)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_a_run_keeps_the_sizes(place, tmp_path):
    model = model_of("xlm-roberta", place)
    file = tmp_path / "epoch_1.pt"
    torch.save({"state_dict": model.state_dict(), "model_config": to_json(model.config)}, file)
    stored = read_stored_model(file)
    assert stored.config == model.config
    assert equal(build_model(stored.config, stored).eval()(*inputs(model)), model(*inputs(model)))


def test_tables_in_files_of_older_transformers_are_left_out(place, tmp_path):
    model = model_of("m2m_100", place)
    sinusoids = model.text.transformer.embed_positions.weights
    tables = {"text.transformer.embed_positions.weights": sinusoids.clone()}
    torch.save(model.state_dict() | tables, tmp_path / "old.pt")
    assert load_checkpoint(model, tmp_path / "old.pt") is None
    tables["text.transformer.embed_positions.weights"] += 0.5
    torch.save(model.state_dict() | tables, tmp_path / "other.pt")
    with pytest.raises(KeyMismatchError, match="embed_positions"):
        load_checkpoint(model, tmp_path / "other.pt")


def test_weights_of_another_readout_are_refused(place, tmp_path):
    fastclip.save_pretrained(model_of("roberta", place), tmp_path / "mean")
    other = model_of("roberta", place, hf_pooler_type="max_pooler")
    with pytest.raises(CheckpointError, match="hf_pooler_type 'mean_pooler'"):
        load_checkpoint(other, tmp_path / "mean")


@pytest.mark.parametrize("layout", ["hf", "openai"])
def test_layouts_without_a_place_for_it_refuse_it(layout, place, tmp_path):
    with pytest.raises(CheckpointError, match=r"Hugging Face text tower|openai/CLIP has no"):
        fastclip.save_pretrained(model_of("roberta", place), tmp_path / "there", layout)


@pytest.mark.parametrize("kind", ["roberta", "mt5", "m2m_100"])
@pytest.mark.parametrize("precision", ["bf16", "pure_bf16"])
def test_features_in_16_bits_are_near(kind, precision, place):
    model = model_of(kind, place)
    images, tokens = inputs(model)
    expected = model.encode_text(tokens, normalize=True)
    found = set_precision(model, precision).encode_text(tokens, normalize=True)
    assert found.dtype == torch.bfloat16
    assert (found.float() * expected).sum(1).min() > 0.99
    assert model.encode_image(images.bfloat16()).dtype == torch.bfloat16


def test_another_length_and_quick_gelu_are_asked_for_by_create_model():
    config = get_model_config("roberta-ViT-B-32")
    on_meta = {"device": "meta"}
    with unfilled():
        model = fastclip.create_model(NAMES[1], force_context_length=40, **on_meta)
        quick = fastclip.create_model("nllb-clip-base", force_quick_gelu=True, **on_meta)
    assert model.context_length == 40 and model.config.text_cfg.context_length == 40
    assert quick.config.activations == ("quick_gelu", None) == config.activations


@pytest.mark.parametrize("kind", small.ENCODERS)
def test_configurations_that_transformers_writes_are_read(kind, tmp_path):
    values = dict(small.ENCODERS[kind])
    written = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    written.architectures = ["Any"]
    written.save_pretrained(tmp_path)
    read = HfTextConfig(str(tmp_path), context_length=12)
    assert read.hf_config["model_type"] == kind and (read.width, read.layers, read.heads) == (
        32,
        2,
        2,
    )
    rest = {name: value for name, value in read.hf_config.items() if name != "model_type"}
    again = transformers.AutoConfig.for_model(kind, **rest)
    for name in rest:
        assert getattr(again, name) == getattr(written, name), name


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"model_type": ["bert"]}, "model_type"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "has fields that are not supported: auto_map"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_act": "evil"}, "hidden_act"),
        ({"hidden_size": 33}, "hidden_size must be a multiple of .*got 33"),
        ({"hidden_size": 2**20}, "hidden_size"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"vocab_size": 10**9}, "vocab_size"),
        ({"pad_token_id": 99}, "pad_token_id must be below .*got 99"),
        ({"pad_token_id": None}, "pad_token_id"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps"),
        ({"hidden_dropout_prob": 2}, "hidden_dropout_prob"),
    ],
)
def test_configurations_of_strangers_are_refused_by_name(changes, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(small.ENCODERS["roberta"] | changes))
    with pytest.raises(ValueError, match=message):
        HfTextConfig(str(tmp_path), context_length=12)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hf_model_name": "some/encoder"}, "some/encoder.*Nothing is fetched for a name"),
        ({"hf_pooler_type": "last"}, "hf_pooler_type"),
        ({"hf_proj_type": "none"}, "hf_proj_type"),
        ({"hf_config": {"model_type": "gpt2"}}, "hf_config: model_type"),
        ({"tokenizer_mode": "clips"}, "tokenizer_mode"),
        ({"hf_something": 1}, "hf_something"),
        ({"tokenizer_kwargs": 3}, "tokenizer_kwargs"),
    ],
)
def test_a_configuration_that_is_not_supported_names_the_field(change, message):
    values = to_json(get_model_config("roberta-ViT-B-32"))
    values["text_cfg"] |= change
    with pytest.raises(ValueError, match=message):
        from_json(values)


def test_defaults_of_a_silent_file_are_open_clips():
    values = {"embed_dim": 64, "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64},
              "text_cfg": {"hf_model_name": "roberta-base", "width": 768, "heads": 3}}  # fmt: skip
    config = from_json(values)
    theirs = open_clip.model.CLIPTextCfg()
    for name in ("hf_pooler_type", "hf_proj_type", "context_length", "hf_tokenizer_name"):
        assert getattr(config.text_cfg, name) == getattr(theirs, name)
    assert config.custom_text and is_portable(config)


def test_a_tower_without_projection_has_the_width_of_the_space(place):
    text = small.hf_text("roberta", place, hf_proj_type=None)
    with pytest.raises(ValueError, match="its width 32 must be embed_dim 24"):
        ClipConfig(24, VISION, text, custom_text=True)
    assert replace(ClipConfig(32, VISION, text, custom_text=True), embed_dim=32).embed_dim == 32


WHOLE = {
    "roberta": "RobertaForMaskedLM",
    "mt5": "MT5ForConditionalGeneration",
    "m2m_100": "M2M100ForConditionalGeneration",
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("is_pickle", [False, True])
def test_an_encoder_begins_with_its_own_weights_if_that_is_asked(
    kind, is_pickle, tmp_path, monkeypatch
):
    """They are taken out of the whole model with its decoder or its head, as it was published."""
    torch.manual_seed(3)
    values = dict(small.ENCODERS[kind])
    theirs = getattr(transformers, WHOLE[kind])(
        transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    )
    folder = tmp_path / kind
    theirs.save_pretrained(folder)
    if is_pickle:
        (folder / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    text = HfTextConfig(str(folder), context_length=12)
    (tmp_path / "own.json").write_text(
        json.dumps(to_json(ClipConfig(24, VISION, text, custom_text=True)))
    )
    monkeypatch.setattr(registry, "architectures", dict(registry.architectures))
    fastclip.add_model_config(tmp_path / "own.json")
    encoder = {"roberta": "roberta", "mt5": "encoder", "m2m_100": "model.encoder"}[kind]
    expected = theirs.get_submodule(encoder).state_dict()
    own, random = (fastclip.create_model("own", pretrained_text=asked) for asked in (True, False))
    for name, value in own.text.transformer.state_dict().items():
        assert torch.equal(value, expected[name]), name
    same = [torch.equal(value, expected[name])
            for name, value in random.text.transformer.state_dict().items()
            if "embed" in name and value.ndim == 2]  # fmt: skip
    assert same and not any(same)


def test_weights_of_another_encoder_are_refused(place, tmp_path):
    values = dict(small.ENCODERS["roberta"])
    theirs = transformers.RobertaModel(
        transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    )
    theirs.save_pretrained(tmp_path)
    text = small.hf_text("m2m_100", place)
    tower = text.build(24)
    with pytest.raises(KeyMismatchError, match="layers"):
        replace(text, hf_model_name=str(tmp_path)).load_published(tower)


def test_weights_that_cannot_be_fetched_name_the_encoder(monkeypatch):
    def nothing(*arguments, **settings):
        raise OSError("no connection")

    monkeypatch.setattr("fastclip.models.fetch.hub_file", nothing)
    with unfilled():
        tower = get_model_config("roberta-ViT-B-32").text_cfg.build(512)
    with pytest.raises(CheckpointError, match=r"'roberta-base' cannot be fetched: .*no connection"):
        get_model_config("roberta-ViT-B-32").text_cfg.load_published(tower)


def test_where_an_encoder_lies_does_not_count_in_the_digest(tmp_path):
    digests = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        model = model_of("roberta", tmp_path / name, hf_pooler_type="max_pooler")
        digests.append(configuration_digest(model))
    digests.append(configuration_digest(model_of("roberta", tmp_path)))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("kind", ["roberta", "mt5", "m2m_100"])
def test_a_trace_computes_what_the_model_does(kind, place):
    model = model_of(kind, place)
    program = fastclip.trace_model(model, batch_size=2)
    images, tokens = inputs(model)
    for found, expected in zip(
        program(images[:3], tokens[:3, :10]), model(images[:3], tokens[:3, :10]), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_commands_name_the_extra_that_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["plan", "--model", "roberta-ViT-B-32"]) == 2
    assert 'needs transformers: pip install "transformers>=5"' in capsys.readouterr().err
    assert "roberta-ViT-B-32" in fastclip.list_models()


def test_an_encoder_that_nobody_has_published_is_not_guessed(place):
    model = model_of("roberta", place)
    with pytest.raises(CheckpointError, match="that no published model has"):
        infer_config(model.state_dict(), "gelu", heads=2)


def test_another_number_of_heads_than_the_encoders_is_refused():
    with unfilled():
        tensors = fastclip.create_model("roberta-ViT-B-32", device="meta").state_dict()
    with pytest.raises(CheckpointError, match="text tower must be 12, as in roberta-base, got 8"):
        infer_config(tensors, "quick_gelu", heads=(12, 8))
    assert infer_config(tensors, "quick_gelu") == get_model_config("roberta-ViT-B-32")
