import pytest
import torch

from fastclip import ClipLoss
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.demo import checkpoint
from fastclip.demo.checkpoint import load_checkpoint, save_checkpoint
from fastclip.demo.loop import train
from fastclip.models.clip import CLIP
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.train.settings.step_config import TrainConfig
from fastclip.train.step.optimizer import make_optimizer

TOKENIZER = WordTokenizer(["one", "two"], context_length=4)
CONFIG = TrainConfig(batch_size=4, steps=2)
MODEL = ClipConfig(
    8, VisionConfig((4, 4), patch_size=2, width=8, layers=1, head_width=4, channels=1),
    TextConfig(TOKENIZER.context_length, TOKENIZER.vocab_size, width=8, heads=2, layers=1),
)  # fmt: skip


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = CLIP(MODEL)
    optimizer = make_optimizer(model, CONFIG)
    images, tokens = torch.randn(4, 1, 4, 4), TOKENIZER(["one", "two", "one two", "two one"])
    train(model, optimizer, ClipLoss(), [(images, tokens)] * 2, CONFIG)
    return model, optimizer, images


def save(path, trained):
    model, optimizer, _ = trained
    save_checkpoint(path, model, TOKENIZER, optimizer, CONFIG, global_step=2)


def test_round_trip_rebuilds_model_tokenizer_and_optimizer(tmp_path, trained):
    model, optimizer, images = trained
    save(tmp_path / "a.pt", trained)
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert torch.equal(loaded.model.encode_image(images), model.eval().encode_image(images))
    tokens = loaded.tokenizer(["two one", "unheard"])
    assert torch.equal(tokens, TOKENIZER(["two one", "unheard"]))
    assert torch.equal(loaded.model.encode_text(tokens), model.encode_text(tokens))
    assert (loaded.config, loaded.global_step) == (CONFIG, 2)

    resumed = make_optimizer(loaded.model, CONFIG)
    resumed.load_state_dict(loaded.optimizer_state)
    momenta = optimizer.state_dict()["state"]
    for i, state in resumed.state_dict()["state"].items():
        assert torch.equal(state["exp_avg"], momenta[i]["exp_avg"])


def test_file_holds_open_clips_keys_and_loads_with_weights_only(tmp_path, trained):
    save(tmp_path / "a.pt", trained)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert content.keys() >= {"epoch", "name", "state_dict", "optimizer"}
    assert content["samples_seen"] == 8


@pytest.mark.parametrize("stage", ["save", "fsync", "replace"])
def test_crash_while_writing_leaves_the_old_checkpoint_alone(tmp_path, trained, monkeypatch, stage):
    path = tmp_path / "a.pt"
    save(path, trained)
    before = path.read_bytes()

    def crash(*args):
        if stage == "save":
            args[1].write(b"half a checkpoint")
        raise OSError("the disk is full")

    owner = torch if stage == "save" else checkpoint.os
    with monkeypatch.context() as patch:
        patch.setattr(owner, stage, crash)
        with pytest.raises(OSError, match="disk is full"):
            save(path, trained)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_new_checkpoint_is_readable_by_whom_the_umask_allows(tmp_path, trained):
    save(tmp_path / "a.pt", trained)
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_loading_something_else_names_the_missing_part(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=r"other\.pt is not a checkpoint of fastclip.*model_config"
    ):
        load_checkpoint(tmp_path / "other.pt")


def test_loading_nothing_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "missing.pt")
