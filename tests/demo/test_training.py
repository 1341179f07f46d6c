from dataclasses import replace

import pytest
import torch

from fastclip.data.built_in import open_built_in
from fastclip.demo.settings import DemoSettings
from fastclip.demo.training import Training
from fastclip.models.openai import load
from fastclip.train.run.run import Run
from tests.support.pair_files import captions, read_all

SETTINGS = DemoSettings(batch_size=32, steps=4, seed=0, backend="auto", threads=1)


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_run_takes_the_steps_that_were_asked_for_and_keeps_their_numbers(tmp_path, capsys):
    training = Training(SETTINGS, tmp_path)
    before = training.model.visual.proj.clone()
    path = training.train()
    assert len(training.losses) == 4 and training.losses[-1] < training.losses[0]
    assert training.seconds > 0 and training.peak_bytes > 0
    assert not torch.equal(training.model.visual.proj, before)
    model, _ = load(path, device="cpu")
    assert torch.equal(model.visual.proj, training.model.visual.proj)
    said = capsys.readouterr()
    assert said.out == "" and "training: 100%" in said.err


def test_seed_decides_the_weights(tmp_path):
    first, again, other = (
        Training(replace(SETTINGS, seed=seed), tmp_path / str(i)).model.visual.proj
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_every_batch_is_new_and_has_no_caption_twice():
    config = SETTINGS.run_config()
    source = open_built_in(config.train_data, config.train_num_samples)
    texts = captions(read_all(source))
    batches = [tuple(texts[start : start + 32]) for start in range(0, 128, 32)]
    assert len(set(batches)) == 4 and all(len(set(batch)) == 32 for batch in batches)
    assert config.shuffle_buffer == 1  # batches are read in the order of the draws


def test_signal_ends_the_demo_with_its_status(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "train", lambda self: 143)
    with pytest.raises(SystemExit, match="143"):
        Training(SETTINGS, tmp_path).train()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"batch_size": 65_537}, "batch_size must be at most 65536, got 65537"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"seed": -1}, r"seed must be in \[0, 2\^63\)"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_settings_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **change)
