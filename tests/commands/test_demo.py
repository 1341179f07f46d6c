import argparse
import math
import re

import pytest
import torch

from fastclip import cli
from fastclip.commands import demo
from fastclip.demo import demonstration
from fastclip.losses.clip import ClipLoss
from fastclip.models.openai import load

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(output, *options):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return demo.run(parser.parse_args(["--output", str(output), *options]))


@pytest.mark.slow
def test_demo_trains_reports_and_writes_its_files(tmp_path, monkeypatch, capsys):
    # Nothing of the measuring is replaced, only its second, larger size is left out.
    monkeypatch.setattr(demonstration, "LARGE_BATCH", 64)
    assert run(tmp_path / "new" / "out", "--batch-size", "64", "--steps", "5") == 0

    said = capsys.readouterr()
    losses = [float(x) for x in re.search(r"loss (\S+) -> (\S+)", said.out).groups()]
    assert losses[1] < losses[0]
    for line in ("image to text", "text to image", "accuracy", "chance", "fused", "checkpoint.pt"):
        assert line in said.out
    assert re.search(r"^  64 .* MiB$", said.out, re.M)
    assert "training: 100%" in said.err

    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.pt", "demo.png"]
    assert (out / "demo.png").read_bytes().startswith(PNG)
    content = torch.load(out / "checkpoint.pt", weights_only=True)
    assert (content["global_step"], content["config"]["batch_size"]) == (5, 64)
    model, _ = load(out / "checkpoint.pt", device="cpu")
    assert torch.equal(model.visual.proj, content["state_dict"]["visual.proj"])


def test_loss_that_is_not_finite_is_a_sentence_and_older_files_stay(tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoint.pt").write_bytes(b"an older one")
    monkeypatch.setattr(ClipLoss, "forward", lambda self, images, *others: images.sum() * math.nan)
    assert run(tmp_path, "--batch-size", "8", "--steps", "2") == 2
    (said,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("fastclip demo: ")]
    assert "the loss of step 1 is nan" in said
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"an older one"


@pytest.mark.parametrize(
    "options, message",
    [
        (["--batch-size", "1"], "batch_size must be at least 2"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--threads", "0"], "threads must be at least 1"),
        (["--seed", str(2**63)], "seed must be in"),
        (["--batch-size", "100000"], "batch_size must be at most 65536"),
    ],
)
def test_demo_refuses_with_one_line(tmp_path, capsys, options, message):
    assert run(tmp_path / "out", *options) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fastclip demo: ")
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_demo_names_the_extra_when_a_package_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demonstration, "EXTRAS", ("matplotlib", "a_package_nobody_has"))
    assert run(tmp_path) == 2
    said = capsys.readouterr().err
    assert 'a_package_nobody_has: pip install "scikit-learn' in said
    assert "matplotlib," not in said


def test_demo_help_states_the_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["demo", "--help"])
    said = capsys.readouterr().out
    for option in ("--batch-size", "--steps", "--seed", "--output", "--backend", "--threads"):
        assert option in said
    assert "2048" in said
