"""CoCa with a text tower of transformers, as `coca_roberta-ViT-B-32` is, against open_clip's."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import fastclip
from fastclip.models.build import class_of
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.clip_config import ClipConfig
from fastclip.models.coca.config import MultimodalConfig
from fastclip.models.coca.model import CoCa
from fastclip.models.coca.vocabulary import require_tokenizer
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.towers.hugging_face.published import ENCODERS
from fastclip.models.towers.vision_transformer.config import VisionConfig
from fastclip.train.run.loss import make_loss
from fastclip.train.run.model import make_model
from fastclip.train.settings.model_config import ModelConfig
from fastclip.train.settings.run_config import RunConfig
from tests.support.hugging_face_towers import hf_text, texts
from tests.support.peers import open_clip, transformers

NAME = "coca_roberta-ViT-B-32"
WRITTEN, READ = 50, 60
VISION = VisionConfig(16, 8, width=32, layers=1, head_width=16, output_tokens=True)
DECODER = MultimodalConfig(12, 32, heads=2, layers=2, vocab_size=WRITTEN)


def coca(place, **decoder) -> CoCa:
    text = hf_text("roberta", place, hf_proj_type="linear", output_tokens=True)
    config = ClipConfig(
        24, VISION, text, custom_text=True, multimodal_cfg=replace(DECODER, **decoder)
    )
    torch.manual_seed(0)
    return class_of(config)(config).eval()


def open_clips(config: ClipConfig):
    values = to_json(config)
    values.pop("custom_text")
    values["text_cfg"] |= {"hf_model_pretrained": False}
    values["text_cfg"].pop("hf_config", None)
    return open_clip.CoCa(**values).eval()


def inputs(model):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 16, 16, generator=generator, dtype=torch.float64)
    tokens = texts(model.config.text_cfg)
    return images, tokens.where(tokens < WRITTEN, 7)


@pytest.mark.fast
def test_outputs_and_gradients_are_open_clips(tmp_path):
    model = coca(tmp_path).double()
    theirs = open_clips(model.config).double()
    theirs.load_state_dict(model.state_dict(), strict=True)
    images, tokens = inputs(model)
    found, expected = model(images, tokens), theirs(images, tokens)
    assert found["logits"].shape == (4, 11, WRITTEN)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)
    sum(fastclip.CoCaLoss(2.0, 1.0, pad_id=1)(**found)).backward()
    sum(open_clip.CoCaLoss(2.0, 1.0, pad_id=1)(**expected)).backward()
    others = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                parameter.grad, others[name].grad, rtol=1e-7, atol=1e-10, msg=name
            )


def test_the_published_model_has_open_clips_keys_shapes_and_configuration(monkeypatch):
    def known(name, **settings):
        values = dict(ENCODERS[name])
        return transformers.AutoConfig.for_model(values.pop("model_type"), **values)

    monkeypatch.setattr(open_clip.hf_model.AutoConfig, "from_pretrained", known)
    values = open_clip.get_model_config(NAME)
    config = fastclip.get_model_config(NAME)
    assert from_json(values) == config == from_json(to_json(config))
    with torch.device("meta"):
        ours = class_of(config)(config)
        theirs = open_clips(config)
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == expected
    assert expected["text_decoder.text_projection"] == (768, 49408)
    assert expected["text.transformer.embeddings.word_embeddings.weight"] == (50265, 768)
    assert infer_config(ours.state_dict(), "gelu") == config


def test_every_architecture_of_open_clip_is_built_in():
    assert set(open_clip.list_models()) <= set(fastclip.list_models())
    assert len(open_clip.list_models()) == 144


def test_another_vocabulary_of_the_decoder_is_said_where_open_clip_looks(tmp_path):
    for written in (WRITTEN, READ, READ + 4):
        config = coca(tmp_path, vocab_size=None if written == READ else written).config
        values = to_json(config)
        assert values["text_cfg"]["vocab_size"] == written and from_json(values) == config
        theirs = open_clips(config)
        assert theirs.text_decoder.text_projection.shape == (32, written)
    values["multimodal_cfg"]["vocab_size"] = 61
    with pytest.raises(ValueError, match="vocab_size 61 is not supported"):
        from_json(values)


def test_a_saved_model_is_the_same_again(tmp_path):
    model = coca(tmp_path)
    images, tokens = inputs(model)
    fastclip.save_pretrained(model, tmp_path / "written")
    again = fastclip.create_model(str(tmp_path / "written")).eval()
    assert again.config == model.config
    images = images.float()
    assert torch.equal(again(images, tokens)["logits"], model(images, tokens)["logits"])


def test_labels_that_the_decoder_cannot_write_are_refused_and_features_are_not(tmp_path):
    model = coca(tmp_path)
    images, tokens = inputs(model)
    images, tokens[0, 3] = images.float(), WRITTEN
    assert model.encode_text(tokens).shape == model.encode_image(images).shape == (4, 24)
    assert model(images, tokens, captions="none")["text_features"].shape == (4, 24)
    for captions in ("logits", "losses"):
        with pytest.raises(ValueError, match=r"tokens below 50, and 50 is none.* of the 60 "):
            model(images, tokens, captions=captions)
    tokens[0] = tokens[0].where(torch.arange(12) > 0, WRITTEN)  # the first is no label
    tokens[0, 3] = 7
    assert model(images, tokens, captions="losses")["caption_losses"].isfinite().all()


@pytest.mark.parametrize("label", [50, -1])
def test_the_loss_refuses_labels_without_logits(label):
    features = torch.randn(2, 8).softmax(1)
    logits, labels = torch.randn(2, 3, 50), torch.tensor([[1, 2, 99], [3, label, 4]])
    loss = fastclip.CoCaLoss(2.0, 1.0, pad_id=99)
    with pytest.raises(ValueError, match=f"from 0 to 49, because .* of 50 tokens, got {label}"):
        loss(features, features, logits, labels, 10.0)
    labels[1, 1] = 49
    assert all(value.isfinite() for value in loss(features, features, logits, labels, 10.0))


def test_captions_begin_and_end_with_what_is_told(tmp_path):
    model, images = coca(tmp_path), torch.randn(2, 3, 16, 16)
    assert model.pad_id == 1
    short = dict(seq_len=6, min_seq_len=2, generation_type="greedy")
    found = model.generate(images, eos_token_id=2, sot_token_id=0, **short)
    assert found[:, 0].tolist() == [0, 0] and int(found.max()) < WRITTEN
    with pytest.raises(ValueError, match="eos_token_id and sot_token_id must be given"):
        model.generate(images, **short)
    with pytest.raises(ValueError, match="eos_token_id must be given"):
        model.generate(images, torch.zeros(2, 1, dtype=torch.int64), **short)
    with pytest.raises(ValueError, match=r"eos_token_id: the decoder writes .* below 50, and 55"):
        model.generate(images, eos_token_id=55, sot_token_id=0, **short)
    with pytest.raises(ValueError, match=r"text: the decoder writes .* below 50, and 50"):
        model.generate(images, torch.full((2, 1), 50), eos_token_id=2, **short)
    with pytest.raises(ValueError, match="writes 64 tokens, and the text tower reads 60"):
        coca(tmp_path, vocab_size=64).generate(images, eos_token_id=2, sot_token_id=0, **short)


def test_training_looks_at_the_tokenizer_first(tmp_path, monkeypatch):
    model = coca(tmp_path)
    require_tokenizer(model, SimpleNamespace(vocab_size=WRITTEN), "own")
    require_tokenizer(model, lambda texts: texts, "own")
    module = "fastclip.train.run.model."
    monkeypatch.setattr(module + "get_tokenizer", lambda *args: SimpleNamespace(vocab_size=READ))
    monkeypatch.setattr(module + "create_model", lambda *args, **settings: model)
    with pytest.raises(ValueError, match=r"-32: its tokenizer has 60 tokens, .* the first 50"):
        make_model(ModelConfig(model="coca_roberta-ViT-B-32"))


def test_a_caption_that_the_tower_has_seen_is_not_trained_on(tmp_path):
    model = coca(tmp_path)
    config = RunConfig(model="own", train_data="-")
    with pytest.raises(ValueError, match="coca_caption_loss_weight must be 0 with own, got 2"):
        make_loss(config, model)
    make_loss(replace(config, coca_caption_loss_weight=0.0), model)


def test_tokens_without_the_first_are_refused(tmp_path):
    config = coca(tmp_path).config
    with pytest.raises(ValueError, match="hf_pooler_type 'cls_pooler' cannot be"):
        replace(config, text_cfg=replace(config.text_cfg, hf_pooler_type="cls_pooler"))


def test_shapes_of_no_published_model_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="this CoCa model cannot be inferred"):
        infer_config(coca(tmp_path).state_dict(), "gelu")
