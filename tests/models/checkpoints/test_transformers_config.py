"""transformers' `config.json`: every field is obeyed, or refused by name."""

import json
import warnings
from copy import deepcopy
from dataclasses import replace

import pytest

from fastclip.models.checkpoints import transformers_fields
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.stored_model import read_config, read_stored_model
from fastclip.models.checkpoints.transformers_config import (
    from_transformers_config,
    to_transformers_config,
)
from fastclip.models.checkpoints.write import save_pretrained
from tests.support.small_models import SMALL, build

# What transformers 4.1 wrote into each tower of OpenAI's models, and 4.2x into the whole.
EARLY = json.loads("""{
  "_name_or_path": "", "add_cross_attention": false, "architectures": null,
  "attention_dropout": 0.0, "bad_words_ids": null, "begin_suppress_tokens": null,
  "bos_token_id": 0, "chunk_size_feed_forward": 0, "cross_attention_hidden_size": null,
  "decoder_start_token_id": null, "diversity_penalty": 0.0, "do_sample": false, "dropout": 0.0,
  "early_stopping": false, "encoder_no_repeat_ngram_size": 0, "eos_token_id": 2,
  "exponential_decay_length_penalty": null, "finetuning_task": null, "forced_bos_token_id": null,
  "forced_eos_token_id": null, "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
  "initializer_factor": 1.0, "initializer_range": 0.02, "is_decoder": false,
  "is_encoder_decoder": false, "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "length_penalty": 1.0,
  "max_length": 20, "min_length": 0, "no_repeat_ngram_size": 0, "num_beam_groups": 1,
  "num_beams": 1, "num_return_sequences": 1, "output_attentions": false,
  "output_hidden_states": false, "output_scores": false, "pad_token_id": 1, "prefix": null,
  "problem_type": null, "projection_dim": 512, "pruned_heads": {}, "remove_invalid_values": false,
  "repetition_penalty": 1.0, "return_dict": true, "return_dict_in_generate": false,
  "sep_token_id": null, "suppress_tokens": null, "task_specific_params": null, "temperature": 1.0,
  "tf_legacy_loss": false, "tie_encoder_decoder": false, "tie_word_embeddings": true,
  "tokenizer_class": null, "top_k": 50, "top_p": 1.0, "torch_dtype": null, "torchscript": false,
  "transformers_version": "4.16.0.dev0", "typical_p": 1.0, "use_bfloat16": false}""")


def changed(values: dict, tower: str | None, **change) -> dict:
    return values | ({tower: values[tower] | change} if tower else change)


@pytest.fixture(params=["vit", "siglip"])
def values(request):
    return to_transformers_config(SMALL[request.param])


def test_early_file_that_lists_what_every_model_has_is_read():
    values = to_transformers_config(SMALL["vit"])
    plain = from_transformers_config(values)
    for tower in ("text_config", "vision_config"):
        values[tower] = EARLY | values[tower]
    values |= {"_commit_hash": None, "eos_token_id": 2, "architectures": ["CLIPModel"]}
    assert from_transformers_config(values) == plain


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_every_field_that_transformers_writes_today_is_known(kind):
    from tests.support.peers import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {"clip": transformers.CLIPConfig, "siglip": transformers.SiglipConfig}[kind]()
    config = from_transformers_config(theirs.to_dict())
    left_out = from_transformers_config({"model_type": kind})
    # Of random weights alone, and ours with more digits.
    assert replace(config, init_logit_scale=left_out.init_logit_scale) == left_out


@pytest.mark.parametrize(
    "tower, change, message",
    [
        ("text_config", {"attention_dropout": 0.1}, "text_config: attention_dropout 0.1"),
        ("vision_config", {"attention_dropout": 0.1}, "vision_config: attention_dropout 0.1"),
        ("vision_config", {"dropout": 0.1}, "vision_config: dropout 0.1"),
        ("text_config", {"is_decoder": True}, "text_config: is_decoder True"),
        ("text_config", {"pruned_heads": {"0": [1]}}, "text_config: pruned_heads"),
        (
            "text_config",
            {"rope_theta": 1e4},
            "text_config has fields that are not supported: rope_theta",
        ),
        (
            "vision_config",
            {"qkv_bias": False},
            "vision_config has fields that are not supported: qkv_bias",
        ),
        ("vision_config", {"patch_size": [8, 4]}, r"patch_size \[8, 4\]"),
        ("vision_config", {"num_attention_heads": 3}, "num_attention_heads 3"),
        (None, {"quantization_config": {"bits": 4}}, "the model has .*: quantization_config"),
        (None, {"auto_map": {"AutoModel": "x.Y"}}, "the model has .*: auto_map"),
    ],
    ids=str,
)
def test_field_that_is_not_obeyed_is_refused_by_name(tower, change, message, values):
    with pytest.raises(ValueError, match=message):
        from_transformers_config(changed(values, tower, **change))


@pytest.mark.parametrize(
    "kind, tower, change, message",
    [
        ("siglip", "vision_config", {"vision_use_head": False}, "vision_use_head False"),
        ("siglip", "vision_config", {"num_channels": 1}, "num_channels 1"),
        ("siglip", "text_config", {"projection_size": 64}, "projection_size 64"),
        ("siglip", None, {"text_config_dict": {"hidden_size": 64}}, "text_config_dict"),
        ("vit", "text_config", {"eos_token_id": [3, 4]}, r"eos_token_id \[3, 4\]"),
        ("vit", "text_config", {"eos_token_id": None}, "eos_token_id None"),
    ],
    ids=str,
)
def test_field_of_one_model_is_refused_by_name(kind, tower, change, message):
    values = to_transformers_config(SMALL[kind])
    with pytest.raises(ValueError, match=message):
        from_transformers_config(changed(values, tower, **change))


def test_second_copy_of_a_tower_is_completed_with_defaults_as_in_transformers():
    from tests.support.peers import transformers

    second = {"hidden_size": 1024, "num_attention_heads": 16}
    values = to_transformers_config(SMALL["vit"]) | {"vision_config_dict": second}
    ours = from_transformers_config(values).vision_cfg
    theirs = transformers.CLIPConfig(**deepcopy(values)).vision_config
    assert (ours.width, ours.layers) == (theirs.hidden_size, theirs.num_hidden_layers) == (1024, 12)
    assert (ours.patch_size, ours.image_size) == (theirs.patch_size, (theirs.image_size,) * 2)
    assert ours.activation == theirs.hidden_act == "quick_gelu"


def test_refusal_names_the_file(tmp_path):
    save_pretrained(build(SMALL["quick_gelu"]), tmp_path / "hf", layout="hf")
    path = tmp_path / "hf" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(changed(values, "text_config", attention_dropout=0.1)))
    for read in (read_stored_model, read_config):
        with pytest.raises(CheckpointError, match=r"hf/config.json: text_config: attention_d"):
            read(tmp_path / "hf")
    path.write_text(json.dumps(values | {"text_config": [1]}))
    with pytest.raises(CheckpointError, match=r"hf/config.json: "):
        read_stored_model(tmp_path / "hf")


def test_unknown_part_of_open_clips_file_is_refused_by_name(tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "model")
    path = tmp_path / "model" / "open_clip_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"tokenizer_cfg": {}}))
    with pytest.raises(CheckpointError, match=r"config.json: the file has .*: tokenizer_cfg"):
        read_stored_model(tmp_path / "model")
    values["preprocess_cfg"]["crop_pct"] = 0.9
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"config.json: preprocess_cfg has .*: crop_pct"):
        read_stored_model(tmp_path / "model")


def test_images_have_the_size_of_the_model_whatever_open_clips_file_says(tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "model")
    path = tmp_path / "model" / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["preprocess_cfg"]["size"] = 64
    path.write_text(json.dumps(values))
    assert read_stored_model(tmp_path / "model").preprocess.height_width == (32, 32)


def test_dropout_is_zero_in_what_is_read_because_towers_have_none():
    for fields in (transformers_fields.CLIP_TEXT, transformers_fields.SIGLIP_VISION):
        assert fields.only["attention_dropout"] == (0.0,)
