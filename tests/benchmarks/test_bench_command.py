"""`fastclip bench` from end to end, on small cases."""

import importlib.util
import json

import pytest
import torch

from fastclip.benchmarks import choice
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import find_provider
from fastclip.cli import main

LOSS = ["bench", "loss", "--rounds", "2", "--budget", "0", "--no-memory"]


def test_bench_loss_prints_a_table_and_writes_results(tmp_path, capsys):
    arguments = ["--n", "64", "128", "--d", "32", "--accuracy", "--autocast"]
    chosen = ["--provider", "fastclip/chunked", "checkpoint/*", "--output", str(tmp_path)]
    assert main([*LOSS, *arguments, *chosen]) == 0

    printed = capsys.readouterr().out
    assert "|  | N = 64 | N = 128 |" in printed
    assert printed.count("| fastclip/chunked |") >= 3  # float32, autocast, their ratio
    (path,) = tmp_path.glob("*/*-loss.json")
    assert f"{torch.get_num_threads()}-threads" in path.parent.name
    content = json.loads(path.read_text())
    assert len(content["rows"]) == 2 * 3 * 2  # sizes, providers, with and without autocast
    for row in content["rows"]:
        assert row["reason"] is None
        assert row["timing"]["rounds"] >= 2 and row["timing"]["times_floor"] > 0
        if not row["case"]["autocast"]:
            assert row["errors"]["image_features"] < 1e-5
    assert path.with_suffix(".md").read_text() == printed
    for kind in ("time", "roofline"):
        assert len(list(path.parent.glob(f"*-{kind}.png"))) == 2
    assert content["schema_version"] == 2 and content["complete"] is True
    assert content["ceilings"]["copy"]["rate"] > 0
    timing = content["rows"][0]["timing"]
    assert len(timing["samples"]) == len(timing["matmul_samples"]) == timing["rounds"]
    assert len(path.with_suffix(".csv").read_text().splitlines()) == 1 + len(content["rows"])

    assert main(["bench", "report", str(path)]) == 0
    assert capsys.readouterr().out == printed


def test_bench_siglip_measures_memory(capsys):
    arguments = ["--n", "32", "--d", "16", "--rounds", "1", "--budget", "0"]
    assert main(["bench", "siglip", *arguments, "--provider", "fastclip/chunked"]) == 0
    printed = capsys.readouterr().out
    assert "# SigLIP loss" in printed
    (line,) = (x for x in printed.splitlines() if x.startswith("| fastclip/chunked |"))
    assert "ms" in line and "MiB" in line


def test_bench_a_provider_that_raises_is_a_row_with_its_reason(capsys, monkeypatch):
    def missing():
        raise ImportError("half installed")

    def broken(image_features, text_features, logit_scale):
        raise RuntimeError("no kernel for this\nand a long explanation")

    entries = (
        Provider("missing", "clip", missing),
        Provider("broken", "clip", lambda: broken),
        Provider("objects", "clip", lambda: broken, lambda case: "not on this machine"),
        find_provider("clip", "fastclip/reference"),
    )
    monkeypatch.setattr(choice, "providers", lambda objective: entries)
    assert main([*LOSS, "--n", "16", "--d", "8"]) == 0
    printed = capsys.readouterr().out
    assert "| fastclip/reference |" in printed
    _, _, reasons = printed.partition("## Not measured")
    assert "- missing (random-16x8-float32-scale100): ImportError: half installed" in reasons
    assert "RuntimeError: no kernel for this\n" in reasons
    assert "not on this machine" in reasons


def test_bench_unknown_provider_is_an_error_that_names_the_known(capsys):
    assert main([*LOSS, "--provider", "fastclip/chunked", "fastclip/abacus"]) == 2
    message = capsys.readouterr().err
    assert "no provider matches fastclip/abacus" in message and "fastclip/chunked" in message


def test_bench_providers_lists_them_all(capsys):
    assert main(["bench", "providers"]) == 0
    printed = capsys.readouterr().out
    assert "fastclip/reference" in printed and "open_clip+compile" in printed


def test_bench_help_names_the_options(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "loss", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for option in ("--n", "--dtype", "--data", "--provider", "--output", "--autocast"):
        assert option in text


@pytest.mark.parametrize("content", [None, "{}", "[]", "not JSON", '{"rows": [{}]}'])
def test_report_of_something_else_is_one_line(content, tmp_path, capsys):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    assert main(["bench", "report", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("fastclip bench report: ") and str(path) in captured.err


def test_without_matplotlib_results_are_written_and_the_plots_are_said_to_be_missing(
    tmp_path, monkeypatch, capsys
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    arguments = ["--n", "32", "--d", "16", "--provider", "fastclip/reference"]
    assert main([*LOSS, *arguments, "--output", str(tmp_path)]) == 0
    written = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {".json", ".md", ".csv"}
    assert 'they need matplotlib: pip install "matplotlib>=3.8"' in capsys.readouterr().err
    (path,) = tmp_path.glob("*/*.json")
    assert main(["bench", "report", str(path), "--plots"]) == 2
    assert "--plots: they need matplotlib" in capsys.readouterr().err
