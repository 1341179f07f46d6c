"""Who `fastclip bench losses` compares computes one loss, and its table says all of it."""

import importlib.util
import json

import pytest
import torch

import fastclip
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.family.inputs import prefixes_of
from fastclip.benchmarks.family.losses import LOSSES, providers_of
from fastclip.benchmarks.memory import extra_bytes
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import find_provider
from fastclip.benchmarks.step import Step
from fastclip.cli import main
from tests.support.tolerance import distance

PROVIDERS = [provider for name in LOSSES for provider in providers_of(name)[:-1]]
BENCH = ["bench", "losses", "--rounds", "2", "--budget", "0"]
SMALL = ["--n", "16", "--d", "8", "--no-memory"]


def check_agrees(provider: Provider, case: Case) -> None:
    """Loss and gradients are those of the dense formula to 1e-10, at each of two calls."""
    truth = Step(providers_of(provider.objective)[-1], case)()
    step = Step(provider, case)
    for outcome in (step(), step()):
        found, expected = ((x.loss, *x.gradients) for x in (outcome, truth))
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape and one.dtype == torch.float64
            assert distance(one, other) <= 1e-10 * max(other.norm().item(), 1e-3)


@pytest.mark.parametrize("kind, scale", [("random", 14.3), ("trained", 50.0)])
@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: p.name)
def test_it_is_the_formula(provider, kind, scale):
    case = Case(24, 16, torch.float64, scale, kind)
    if (why := provider.objection(case)) is not None:
        pytest.skip(why)
    check_agrees(provider, case)


def test_every_loss_is_compared():
    # CoCa's and LocCa's are losses of the table, and a cross-entropy of captions.
    with_captions = {"CoCaLoss", "LocCaLoss"}
    assert set(LOSSES) == {n for n in dir(fastclip) if n.endswith("Loss")} - with_captions


def test_prefixes_are_powers_of_two_below_the_whole():
    assert prefixes_of(768) == [768, 512, 256, 128, 64]
    assert prefixes_of(128) == [128, 64, 32, 16, 8]
    assert prefixes_of(3) == [3, 2, 1] and prefixes_of(1) == [1]


def lines_of(printed: str, loss: str) -> dict[str, list[str]]:
    """The cells of a loss by who it is by."""
    table = [[x.strip() for x in line.split("|")[1:-1]] for line in printed.splitlines()]
    rows = [row for row in table if len(row) == 5]
    first = next(i for i, row in enumerate(rows) if row[0] == loss)
    last = next((i for i, row in enumerate(rows) if i > first and row[0]), len(rows))
    return {row[1]: row[2:] for row in rows[first:last]}


def test_a_table_is_printed_and_written_and_printed_again(tmp_path, capsys):
    chosen = ["--losses", "Queue*", "InfoNCELoss", "--output", str(tmp_path)]
    assert main([*BENCH, *SMALL, *chosen]) == 0
    printed = capsys.readouterr().out
    assert "## N = 16, D = 8" in printed
    for loss in ("QueueLoss", "InfoNCELoss"):
        by = lines_of(printed, loss)
        assert "ms" in by["fastclip"][0] and by["fastclip"][1] == "–"
        assert by["dense"][1].endswith("x") and float(by["dense"][1][:-1]) > 0
    (path,) = tmp_path.glob("*/*-losses.json")
    content = json.loads(path.read_text())
    assert content["objective"] == "losses"
    assert {row["provider"] for row in content["rows"]} == {
        p.name for loss in ("QueueLoss", "InfoNCELoss") for p in providers_of(loss)
    }
    assert {"lightly", "sentence-transformers", "open_clip_torch"} <= set(content["host"])
    assert path.with_suffix(".md").read_text() == printed
    assert {x.suffix for x in path.parent.iterdir()} == {".json", ".md", ".csv"}

    assert main(["bench", "report", str(path)]) == 0
    assert capsys.readouterr().out == printed
    assert main(["bench", "report", str(path), "--plots"]) == 2
    assert "--plots: results of several losses have no plots" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_a_line_that_says_so(capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lightly" else find_spec(name)
    )
    assert main([*BENCH, *SMALL, "--losses", "DCLLoss"]) == 0
    printed = capsys.readouterr().out
    assert lines_of(printed, "DCLLoss")["lightly"] == ["not installed", "–", "–"]
    assert "- DCLLoss/lightly (random-16x8-float32-scale14.3): lightly is not installed" in printed


def test_a_loss_that_cannot_be_is_a_line_with_its_reason(capsys):
    assert main([*BENCH, "--n", "1", "--d", "8", "--no-memory", "--losses", "DCLLoss"]) == 0
    printed = capsys.readouterr().out
    assert lines_of(printed, "DCLLoss")["fastclip"][0] == "not measured"
    assert "DCLLoss/fastclip (random-1x8-float32-scale14.3): ValueError: one pair alone" in printed


def test_matrices_of_a_peer_that_cannot_fit_are_declined():
    """Cubic memory: 512 GiB at N = 1,500, where all scores of the views would be 34 MiB."""
    (cubic,) = (p for p in providers_of("NTXentLoss") if p.name.endswith("metric-learning"))
    if importlib.util.find_spec("pytorch_metric_learning") is None:
        assert cubic.objection(Case(2)) == "pytorch_metric_learning is not installed"
    else:
        assert "GiB are available" in cubic.objection(Case(20_000))


def test_unknown_names_are_errors_that_name_the_known(capsys):
    assert main([*BENCH, "--losses", "DCLLoss", "TripletLoss"]) == 2
    message = capsys.readouterr().err
    assert "no loss matches TripletLoss" in message and "NTXentLoss" in message
    assert main([*BENCH, "--losses", "InfoNCELoss", "--provider", "dense", "lightly"]) == 2
    assert "no provider matches lightly; there are fastclip, dense" in capsys.readouterr().err


def test_whom_to_time_can_be_chosen(capsys):
    chosen = ["--losses", "InfoNCELoss", "ClipLoss", "--provider", "open*"]
    assert main([*BENCH, *SMALL, *chosen]) == 0
    told = capsys.readouterr()
    assert "no such provider of InfoNCELoss" in told.err
    by = lines_of(told.out, "ClipLoss")
    assert list(by) == ["open_clip"] and by["open_clip"][1] == "–"


@pytest.mark.slow
def test_memory_is_measured_in_a_process_that_finds_the_loss_by_name():
    # All scores would be 36 MiB, and are kept by default.
    extra = extra_bytes(find_provider("SupConLoss", "SupConLoss/fastclip"), Case(3072, 8))
    assert 0 < extra < 3 * 36 << 20
