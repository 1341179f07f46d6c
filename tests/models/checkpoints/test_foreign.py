"""What looks like a model's weights and is something else is refused with the way to the model."""

import json

import pytest
import torch
from safetensors.torch import save_file

import fastclip
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.stored_model import read_config, read_stored_model
from fastclip.models.checkpoints.write import save_pretrained
from tests.support.small_models import SMALL, build

LORA = {
    "base_model.model.q_proj.lora_A.weight": torch.zeros(4, 8),
    "base_model.model.q_proj.lora_B.weight": torch.zeros(8, 4),
}
HF = {
    "vision_model.embeddings.class_embedding": torch.zeros(8),
    "text_model.final_layer_norm.weight": torch.zeros(8),
}


def optimizer_state() -> dict:
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    optimizer = torch.optim.AdamW([weight])
    optimizer.step()
    return optimizer.state_dict()


@pytest.fixture
def adapter(tmp_path):
    directory = tmp_path / "peft"
    directory.mkdir()
    (directory / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file(LORA, directory / "adapter_model.safetensors")
    return directory


def test_adapter_is_to_be_merged_first(adapter):
    for read in (read_stored_model, read_config, fastclip.create_model, fastclip.load):
        with pytest.raises(CheckpointError, match=r"adapter_config\.json: .* Merge it .* first"):
            read(str(adapter))


def test_adapter_beside_whole_weights_is_not_read_past(adapter, tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "hf", layout="hf")
    (adapter / "adapter_config.json").rename(tmp_path / "hf" / "adapter_config.json")
    with pytest.raises(CheckpointError, match="an adapter changes a model"):
        fastclip.create_model(str(tmp_path / "hf"))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_adapters_tensors_in_a_file_are_to_be_merged_first(wrapped, whole, tmp_path):
    tensors = {**build(SMALL["vit"]).state_dict(), **LORA} if whole else LORA
    torch.save({"state_dict": tensors} if wrapped else tensors, tmp_path / "lora.pt")
    with pytest.raises(CheckpointError, match=r"lora\.pt holds an adapter's tensors"):
        fastclip.create_model("ViT-S-32", str(tmp_path / "lora.pt"))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_one_file_of_a_transformers_model_needs_its_directory(name, tmp_path):
    path = tmp_path / name
    save_file(HF, path) if path.suffix == ".safetensors" else torch.save(HF, path)
    with pytest.raises(CheckpointError, match=f"give the directory, such as {tmp_path}, that"):
        fastclip.create_model("ViT-S-32", str(path))


def test_optimisers_state_is_not_weights(tmp_path):
    torch.save(optimizer_state(), tmp_path / "optimizer.bin")
    with pytest.raises(CheckpointError, match="found an optimiser's state, without the weights"):
        read_stored_model(tmp_path / "optimizer.bin")
    torch.save({"optimizer": optimizer_state(), "epoch": 3}, tmp_path / "optimizer.pt")
    with pytest.raises(CheckpointError, match=r"an optimiser's state and other v.*: optimizer, ep"):
        read_stored_model(tmp_path / "optimizer.pt")


def test_shards_that_are_not_there_are_counted_and_named(tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "hf", layout="hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    save_file(HF, tmp_path / "hf" / names[1])
    index = {"weight_map": {str(i): name for i, name in enumerate(names)}}
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(json.dumps(index))
    message = rf"lists 3 files of weights, and 2 of them are missing: {names[0]}, {names[2]}"
    with pytest.raises(FileNotFoundError, match=message):
        read_stored_model(tmp_path / "hf")


def test_index_of_shards_that_names_none_is_refused_with_its_name(tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "hf", layout="hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    index = tmp_path / "hf" / "model.safetensors.index.json"
    for values in ({}, {"weight_map": ["model.safetensors"]}):
        index.write_text(json.dumps(values))
        with pytest.raises(CheckpointError, match=index.name):
            read_stored_model(tmp_path / "hf")


@pytest.mark.parametrize(
    "name, kind",
    [("model_index.json", "a pipeline of diffusers"), ("modules.json", "sentence-transformers")],
)
def test_directory_of_another_library_is_named(name, kind, tmp_path):
    (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=kind):
        read_stored_model(tmp_path)


@pytest.mark.parametrize(
    "name, kind",
    [("tf_model.h5", "TensorFlow's weights"), ("flax_model.msgpack", "Flax's weights")],
)
def test_weights_of_another_framework_are_named(name, kind, tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "hf", layout="hf")
    (tmp_path / "hf" / "model.safetensors").rename(tmp_path / "hf" / name)
    with pytest.raises(FileNotFoundError, match=f"has none of .* It has {name}, {kind}"):
        read_stored_model(tmp_path / "hf")


@pytest.mark.parametrize(
    "name, advice",
    [
        ("model.safetensors.index.json", "give the directory"),
        ("config.json", "give the directory"),
        ("tf_model.h5", "TensorFlow"),
        ("MODEL.H5", "TensorFlow"),
        ("model.onnx", "ONNX"),
    ],
)
def test_file_that_is_no_weights_by_its_name_is_refused(name, advice, tmp_path):
    (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=advice):
        fastclip.create_model("ViT-S-32", str(tmp_path / name))


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_pointer_of_a_clone_without_its_large_files_is_named(name, tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "cloned")
    (tmp_path / "cloned" / "open_clip_model.safetensors").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 605157884\n"
    (tmp_path / "cloned" / name).write_text(pointer)
    with pytest.raises(CheckpointError, match=f"{name} is a pointer of Git LFS .* git lfs pull"):
        read_stored_model(tmp_path / "cloned")
