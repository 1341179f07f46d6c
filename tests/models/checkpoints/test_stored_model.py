import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastclip.data.preprocess import IMAGENET_MEAN, PreprocessCfg
from fastclip.models.checkpoints.errors import CheckpointError, KeyMismatchError
from fastclip.models.checkpoints.stored_model import read_config, read_stored_model
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.open_clip_config import to_json
from tests.support.small_models import SMALL, build


@pytest.fixture
def model():
    model = build(SMALL["quick_gelu"])
    cfg = PreprocessCfg(32, mean=IMAGENET_MEAN, interpolation="bilinear", resize_mode="squash")
    model.visual.preprocess_cfg = cfg.to_dict()
    return model


@pytest.fixture(params=["open_clip", "hf"])
def directory(request, model, tmp_path):
    save_pretrained(model, tmp_path / request.param, layout=request.param)
    return tmp_path / request.param


def assert_source(source, model):
    assert source.config == model.config
    state = model.state_dict()
    assert source.tensors.keys() == state.keys()
    assert all(torch.equal(source.tensors[name], state[name]) for name in state)


def test_directory_tells_model_images_and_weights(directory, model):
    source = read_stored_model(directory)
    assert_source(source, model)
    preprocess = source.preprocess
    assert preprocess.height_width == (32, 32)
    assert (preprocess.mean, preprocess.interpolation) == (IMAGENET_MEAN, "bilinear")
    assert preprocess.resize_mode == "squash"
    assert source.activations == ("quick_gelu", "quick_gelu")
    assert source.directory == directory
    assert read_config(directory) == model.config
    assert source.config_or_inferred("quick_gelu", heads=(2, 2)) == model.config
    with pytest.raises(
        CheckpointError, match=r"heads 4 do not fit the weights, which have \(2, 2\)"
    ):
        source.config_or_inferred(heads=4)


def test_centre_crop_is_kept(tmp_path, model):
    model.visual.preprocess_cfg = PreprocessCfg(32).to_dict()
    for layout in ("open_clip", "hf"):
        save_pretrained(model, tmp_path / layout, layout=layout)
        preprocess = read_stored_model(tmp_path / layout).preprocess
        # A processor of transformers crops where it says so, a pixel from open_clip's corner.
        assert preprocess.shortest_edge == (32 if layout == "hf" else None)
        assert replace(preprocess, size=32, shortest_edge=None) == PreprocessCfg(32)


def test_checkpoint_of_ours_tells_its_model(tmp_path, model):
    content = {"state_dict": model.state_dict(), "model_config": to_json(model.config)}
    torch.save(content, tmp_path / "epoch_1.pt")
    source = read_stored_model(tmp_path / "epoch_1.pt")
    assert_source(source, model)
    assert source.directory is None


def test_bare_state_dict_tells_nothing_and_its_architecture_is_inferred(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    source = read_stored_model(tmp_path / "weights.pt")
    assert source.config is None and source.activations == (None, None)
    assert source.config_or_inferred("quick_gelu", heads=2) == model.config
    with pytest.raises(CheckpointError, match="which activation"):
        source.config_or_inferred()
    with pytest.raises(CheckpointError, match="how many attention heads"):
        source.config_or_inferred("quick_gelu")


def test_safetensors_are_preferred_to_pickles(directory, model):
    (directory / "pytorch_model.bin").write_bytes(b"not read")
    (directory / "open_clip_pytorch_model.bin").write_bytes(b"not read")
    assert_source(read_stored_model(directory), model)


def test_weights_in_shards_are_put_together(tmp_path, model):
    save_pretrained(model, tmp_path / "hf", layout="hf")
    path = tmp_path / "hf" / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    index = {"weight_map": {}}
    for i in range(2):
        part = {name: tensors[name] for name in names[i::2]}
        file = f"model-0000{i + 1}-of-00002.safetensors"
        save_file(part, path.with_name(file))
        index["weight_map"] |= dict.fromkeys(part, file)
    path.with_name("model.safetensors.index.json").write_text(json.dumps(index))
    assert_source(read_stored_model(tmp_path / "hf"), model)
    path.with_name("model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="00002-of-00002"):
        read_stored_model(tmp_path / "hf")


def test_directory_without_configuration_or_weights_says_what_it_lacks(directory, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for read in (read_stored_model, read_config):
        with pytest.raises(FileNotFoundError, match=r"neither open_clip_config.json nor config"):
            read(empty)
    for path in directory.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no weights: it has none of"):
        read_stored_model(directory)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_stored_model(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", "[1]", "\xff"])
def test_configuration_that_is_no_json_object_is_refused(content, directory):
    for name in ("open_clip_config.json", "config.json"):
        if (directory / name).is_file():
            (directory / name).write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"is not (a )?JSON"):
        read_stored_model(directory)


def test_configuration_of_another_model_is_refused(tmp_path, model):
    save_pretrained(model, tmp_path / "hf", layout="hf")
    path = tmp_path / "hf" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"model_type": "blip"}))
    with pytest.raises(CheckpointError, match="model_type 'blip'"):
        read_stored_model(tmp_path / "hf")
    values["text_config"]["hidden_act"] = "swish"
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="hidden_act 'swish'"):
        read_stored_model(tmp_path / "hf")


def test_open_clip_configuration_with_a_tower_that_is_not_built_in_is_refused(tmp_path, model):
    save_pretrained(model, tmp_path / "open_clip")
    path = tmp_path / "open_clip" / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["model_cfg"]["text_cfg"]["hf_model_name"] = "some/encoder"
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"open_clip_config.json: .*some/encoder"):
        read_stored_model(tmp_path / "open_clip")


def test_weights_that_are_not_the_configurations_are_listed(tmp_path, model):
    save_pretrained(model, tmp_path / "hf", layout="hf")
    path = tmp_path / "hf" / "model.safetensors"
    tensors = load_file(path)
    tensors["extra"] = tensors.pop("vision_model.post_layernorm.weight")
    save_file(tensors, path)
    with pytest.raises(KeyMismatchError, match=r"from the weights: vision_model.post_l") as raised:
        read_stored_model(tmp_path / "hf")
    assert raised.value.unexpected == ["extra"]


def test_early_configurations_with_second_copies_and_left_out_fields_are_read(tmp_path):
    from fastclip.models.checkpoints.transformers_config import from_transformers_config
    from fastclip.models.presets import PRESETS

    assert from_transformers_config({"model_type": "clip"}) == replace(
        PRESETS["ViT-B-32-quickgelu"], init_logit_scale=PRESETS["ViT-B-32"].init_logit_scale
    )
    values = {"model_type": "clip", "vision_config": {"patch_size": 32, "hidden_size": 1},
              "vision_config_dict": {"patch_size": 16, "hidden_size": 768}}  # fmt: skip
    assert from_transformers_config(values) == PRESETS["ViT-B-16-quickgelu"]
    siglip = from_transformers_config({"model_type": "siglip"})
    tanh = replace(PRESETS["ViT-B-16-SigLIP"].vision_cfg, activation="gelu_tanh")
    assert siglip.vision_cfg == tanh
