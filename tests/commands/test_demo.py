import argparse
import re

import pytest
import torch

from fastclip import cli
from fastclip.commands import demo
from fastclip.demo import loss_memory
from fastclip.demo.checkpoint import load_checkpoint

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
    # Nothing of the measuring is replaced, only its second, larger size made small.
    monkeypatch.setattr(demo, "LARGE_BATCH", 512)
    assert run(tmp_path / "new" / "out", "--batch-size", "64", "--steps", "5") == 0

    said = capsys.readouterr()
    losses = [float(x) for x in re.search(r"loss (\S+) -> (\S+)", said.out).groups()]
    assert losses[1] < losses[0]
    for line in ("image to text", "text to image", "accuracy", "chance", "fused", "checkpoint.pt"):
        assert line in said.out
    assert re.search(r"^  64 .* MiB$", said.out, re.M)
    assert re.search(r"^  512 .* MiB$", said.out, re.M)
    assert "training: 100%" in said.err

    assert (tmp_path / "new" / "out" / "demo.png").read_bytes().startswith(PNG)
    loaded = load_checkpoint(tmp_path / "new" / "out" / "checkpoint.pt")
    assert (loaded.global_step, loaded.config.batch_size) == (5, 64)
    assert loaded.tokenizer.decode(loaded.tokenizer("top left three")[0]) == "top left three"


@pytest.mark.parametrize(
    "options, message",
    [
        (["--batch-size", "1"], "batch_size must be at least 2"),
        (["--steps", "0"], "steps"),
        (["--threads", "0"], "threads"),
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
    monkeypatch.setattr(demo, "EXTRAS", ("matplotlib", "a_package_nobody_has"))
    assert run(tmp_path) == 2
    said = capsys.readouterr().err
    assert "a_package_nobody_has: pip install 'fastclip-kernels[demo]'" in said
    assert "matplotlib," not in said


def test_demo_help_states_the_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["demo", "--help"])
    said = capsys.readouterr().out
    for option in ("--batch-size", "--steps", "--seed", "--output", "--backend", "--threads"):
        assert option in said
    assert "2048" in said


def test_dense_loss_that_is_measured_is_the_loss_that_is_trained():
    generator = torch.Generator().manual_seed(0)
    image_features, text_features = torch.nn.functional.normalize(
        torch.randn(2, 9, 5, generator=generator), dim=-1
    )
    dense = loss_memory.dense_loss(image_features, text_features, 14.3)
    fused = loss_memory.ClipLoss()(image_features, text_features, 14.3)
    torch.testing.assert_close(fused, dense)


def test_measured_memory_tells_the_losses_apart():
    fused = loss_memory.measure_peak_bytes("fused", 3072, 16, backend="chunked")
    dense = loss_memory.measure_peak_bytes("dense", 3072, 16)
    logits = 4 * 3072**2
    assert dense > 2 * logits
    assert 0 < fused < dense


def test_measuring_reports_why_it_failed():
    with pytest.raises(ValueError, match="sparse"):
        loss_memory.measure_peak_bytes("sparse", 64, 8)
    with pytest.raises(RuntimeError, match=r"fused loss failed.*nonsense"):
        loss_memory.measure_peak_bytes("fused", 64, 8, backend="nonsense")
