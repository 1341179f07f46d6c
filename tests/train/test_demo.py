"""`fastclip demo`, from the command line to its files."""

import pytest
import torch

from fastclip import cli
from fastclip.train import demo
from fastclip.train.checkpoint import load_checkpoint
from fastclip.train.loss_memory import measure_peak_bytes

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_demo_trains_reports_and_writes_its_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "LARGE_BATCH", 64)
    output = tmp_path / "new" / "run"
    arguments = ["demo", "--batch-size", "64", "--steps", "4", "--output", str(output)]
    assert cli.main([*arguments, "--threads", str(torch.get_num_threads())]) == 0
    printed = capsys.readouterr()
    for words in ("R@1", "R@5", "accuracy", "chance", "64 pairs", "MiB", "demo.png"):
        assert words in printed.out
    assert "4/4" in printed.err  # the progress bar
    assert (output / "demo.png").read_bytes().startswith(PNG_SIGNATURE)
    loaded = load_checkpoint(output / "checkpoint.pt")
    assert loaded is not None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch-size", "1"], "batch_size must be at least 2, got 1"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--threads", "0"], "threads must be at least 1, got 0"),
    ],
)
def test_demo_bad_settings_are_one_line_and_exit_status_2(arguments, message, tmp_path, capsys):
    assert cli.main(["demo", *arguments, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_demo_without_its_extras_names_them(monkeypatch, capsys):
    monkeypatch.setattr(demo, "EXTRAS", ("a_package_that_is_not_there",))
    assert cli.main(["demo"]) == 2
    assert "pip install 'fastclip-kernels[demo]'" in capsys.readouterr().err


def test_dense_loss_takes_its_matrices_and_the_fused_one_does_not():
    fused, dense = (measure_peak_bytes(loss, 4096, 16) for loss in ("fused", "dense"))
    assert dense > 3 * 4096 * 4096 * 4
    assert fused < dense / 2


def test_measuring_an_unknown_loss_raises():
    with pytest.raises(ValueError, match="loss must be one of"):
        measure_peak_bytes("sparse", 8, 8)
