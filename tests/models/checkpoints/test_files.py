"""One file of weights: every format that is read, and every way in which it is refused."""

import argparse
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from fastclip.models.checkpoints.errors import CheckpointError, UnsafeCheckpointError
from fastclip.models.checkpoints.files import read_weights_file

STATE = {
    "logit_scale": torch.tensor(2.5),
    "visual.proj": torch.arange(6.0).reshape(2, 3),
    "ln_final.weight": torch.ones(3, dtype=torch.float16),
}


def assert_state(file, expected=STATE):
    assert file.tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(file.tensors[name], value) and file.tensors[name].dtype == value.dtype


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "name": "run", "optimizer": {"state": {}}},
        {"model": STATE},
        {"model_state_dict": STATE, "lr": 0.1},
        {"state_dict": {"model": STATE}},
        {f"module.{k}": v for k, v in STATE.items()},
        {"state_dict": {f"module._orig_mod.{k}": v for k, v in STATE.items()}},
        {f"model.{k}": v for k, v in STATE.items()},
        {k.replace("visual.", "visual._orig_mod."): v for k, v in STATE.items()},
        {**STATE, "text_model.embeddings.position_ids": torch.arange(5)},
    ],
)
def test_state_dict_is_found_in_whatever_wraps_it(content, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    file = read_weights_file(tmp_path / "weights.pt")
    assert_state(file)
    assert not file.is_openai and not file.said


def test_a_prefix_that_only_some_keys_have_is_part_of_their_names(tmp_path):
    state = {"model.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "weights.pt")
    assert_state(read_weights_file(tmp_path / "weights.pt"), state)


def test_safetensors_are_read_with_prefixes_removed(tmp_path):
    save_file({f"module.{k}": v for k, v in STATE.items()}, tmp_path / "weights.safetensors")
    assert_state(read_weights_file(tmp_path / "weights.safetensors"))


def test_older_pickles_without_a_zip_are_read(tmp_path):
    torch.save(STATE, tmp_path / "weights.pt", _use_new_zipfile_serialization=False)
    assert_state(read_weights_file(tmp_path / "weights.pt"))


def test_openais_extras_mark_the_file_and_are_dropped(tmp_path):
    extras = {k: torch.tensor(1) for k in ("input_resolution", "context_length", "vocab_size")}
    torch.save({**STATE, **extras}, tmp_path / "weights.pt")
    file = read_weights_file(tmp_path / "weights.pt")
    assert_state(file)
    assert file.is_openai


def test_configuration_in_a_checkpoint_of_ours_is_returned(tmp_path):
    torch.save({"state_dict": STATE, "model_config": {"embed_dim": 3}}, tmp_path / "weights.pt")
    assert read_weights_file(tmp_path / "weights.pt").said == {"model_config": {"embed_dim": 3}}


def test_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing"):
        read_weights_file(tmp_path / "nothing.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_empty_file_is_refused(suffix, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    path.touch()
    with pytest.raises(CheckpointError, match=f"weights.{suffix} is empty"):
        read_weights_file(path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.98])
def test_truncated_file_is_refused(suffix, kept, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(STATE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match="weights"):
        read_weights_file(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>404</html>", b"version 2 of notes"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors", "bin"])
def test_file_of_another_format_is_refused(suffix, content, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"neither a safetensors file nor|not a readable safetensors"
    ):
        read_weights_file(path)


def test_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights_file(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    "content, described",
    [
        ({}, "dict of nothing"),
        ({"epoch": 3, "loss": 0.5}, "dict of epoch, loss"),
        ([1, 2], "list"),
        (torch.ones(3), "Tensor"),
        ({"state_dict": {}}, "dict of nothing"),
    ],
)
def test_file_without_a_state_dict_says_what_it_holds(content, described, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=f"expected a state dict, .* found a {described}"):
        read_weights_file(tmp_path / "weights.pt")


def test_empty_safetensors_is_no_state_dict(tmp_path):
    save_file({}, tmp_path / "weights.safetensors")
    assert read_weights_file(tmp_path / "weights.safetensors").tensors == {}


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_pickle_that_runs_code_is_refused_and_does_not_run(new_format, tmp_path):
    path, mark = tmp_path / "weights.pt", tmp_path / "ran"
    content = {"state_dict": STATE, "args": Attack(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(UnsafeCheckpointError, match=r"refused.*system.*torch\.save\(model"):
        read_weights_file(path)
    assert not mark.exists()


def test_bare_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    path, mark = tmp_path / "weights.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Attack(mark)))
    with pytest.raises(CheckpointError):
        read_weights_file(path)
    assert not mark.exists()


def test_training_arguments_in_a_checkpoint_are_refused_with_what_to_do(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(UnsafeCheckpointError, match=r"argparse\.Namespace.*save its weights alone"):
        read_weights_file(path)


def test_whole_model_in_a_pickle_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(UnsafeCheckpointError, match="Linear"):
        read_weights_file(tmp_path / "model.pt")
