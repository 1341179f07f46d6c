"""What people write for sizes, dtypes and fractions is read, or refused with its name."""

import pytest
import torch

from fastclip.benchmarks import values
from fastclip.cli import main


@pytest.mark.parametrize(
    ("text", "number"),
    [("4096", 4096), ("4k", 4096), ("1.5K", 1536), ("1m", 2**20), ("8,192", 8192), (7, 7)],
)
def test_sizes(text, number):
    assert values.size("n", text) == number


@pytest.mark.parametrize("text", ["0", "-3", "4.5", "", "k", "nan", "4kk", "1e3", None])
def test_what_is_no_size_is_refused_with_name_and_value(text):
    with pytest.raises(ValueError, match="n must be a positive number, such as 4096 or 4k, got"):
        values.size("n", text)


@pytest.mark.parametrize(
    ("given", "name"),
    [("bf16", "bfloat16"), ("HALF", "float16"), ("float32", "float32"), (torch.float64, "float64")],
)
def test_dtypes(given, name):
    assert values.dtype("dtype", given) == name


@pytest.mark.parametrize(
    ("text", "number"), [("5%", 0.05), ("0.05", 0.05), (0, 0.0), ("150%", 1.5)]
)
def test_fractions(text, number):
    assert values.fraction("x", text) == pytest.approx(number)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (values.dtype, "int8"), (values.fraction, "-1%"), (values.fraction, "5 percent"),
        (values.fraction, "nan"), (values.seconds, "-1"), (values.seconds, "inf"),
        (values.positive, "0"), (values.positive, "nan"),
    ],
)  # fmt: skip
def test_others_are_refused_with_name_and_value(read, value):
    with pytest.raises(ValueError, match=rf"^limit must be .*, got '{value}'$"):
        read("limit", value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--n", "-3"], ["--n", "4x"], ["--d", "0"], ["--dtype", "int8"], ["--threads", "0"],
        ["--rounds", "0"], ["--budget", "-1"], ["--limit", "nan"], ["--logit-scale", "inf"],
        ["--pass", "sideways"], ["--device", "tpu"], ["--data", "mine"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_command_refuses_a_wrong_value_before_anything_runs(arguments, capsys, monkeypatch):
    monkeypatch.setattr("fastclip.benchmarks.command.record", lambda *args: pytest.fail("it ran"))
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "loss", "--n", "16", *arguments])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {arguments[0]}: " in last and arguments[1] in last


@pytest.mark.parametrize("action", ["loss", "siglip", "providers"])
def test_a_device_that_is_not_there_is_refused(action, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["bench", action, "--device", "cuda"]) == 2
    assert "--device cuda: torch " in capsys.readouterr().err
