"""`fastclip bench compare`: a gate that is shut by what is slower, and says what it cannot tell."""

import dataclasses
import json

import pytest

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.compare.intervals import Interval
from fastclip.benchmarks.compare.judge import verdict_of
from fastclip.benchmarks.results import FAMILY, Results, Row
from fastclip.benchmarks.timing import floor_flops, summarize
from fastclip.cli import main

CASE = Case(N=64, D=32)
STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01]
NOISY = [1.0, 2.0, 0.5, 1.3, 0.8, 1.6, 0.7, 1.1]
FACTS = {"cpu": "Abacus", "threads": 1, "torch": "2"}


def row(provider="fastclip/cpu", seconds=STEADY, case=CASE, rates=None, **fields):
    rates = rates or [1e9] * len(seconds)
    timing = summarize(list(seconds), rates, floor_flops(case.N, case.D))
    return Row(case, provider, timing=timing, **fields)


def times(factor, seconds=STEADY):
    return [factor * x for x in seconds]


@pytest.fixture
def saved(tmp_path):
    """Saves results of rows, and returns their path as an argument."""

    def save(name, *rows, objective="clip", **facts):
        path = tmp_path / f"{name}.json"
        Results(objective, "2026-01-31T12:00:00", "bench", FACTS | facts, list(rows)).save(path)
        return str(path)

    return save


def compare(*arguments):
    return main(["bench", "compare", *arguments])


@pytest.mark.parametrize(
    ("factor", "seconds", "limit", "status", "verdict"),
    [
        (1.3, STEADY, "5%", 1, "slower"),
        (1.04, STEADY, "15%", 0, "not slower"),
        (0.7, STEADY, "5%", 0, "faster"),
        (1.1, NOISY, "5%", 0, "cannot tell"),
        (1.3, STEADY, None, 0, "slower"),
        (1.0, STEADY, None, 0, "within noise"),
    ],
)
def test_the_gate(factor, seconds, limit, status, verdict, saved, capsys):
    files = saved("a", row(seconds=seconds)), saved("b", row(seconds=times(factor, seconds)))
    gate = [] if limit is None else ["--fail-if-slower", limit]
    assert compare(*files, *gate) == status
    told = capsys.readouterr()
    (line,) = (x for x in told.out.splitlines() if x.startswith("| fastclip/cpu on"))
    assert line.endswith(f"| {verdict} |")
    assert told.err == f"fastclip bench compare: 1 {verdict}\n"
    assert ("## Cannot tell" in told.out) == (verdict == "cannot tell")


def test_noise_shuts_the_gate_only_if_it_is_asked_to(saved, capsys):
    files = saved("a", row(seconds=NOISY)), saved("b", row(seconds=NOISY))
    assert compare(*files, "--fail-if-slower", "5%", "--fail-if-unclear") == 1
    assert "the interval is too wide" in capsys.readouterr().out


def test_a_machine_that_was_slower_altogether_is_not_a_slower_kernel(saved, capsys):
    """Twice the time at half of the matmul's rate is the same time over the floor."""
    slow = row(seconds=times(2.0), rates=[5e8] * len(STEADY))
    files = saved("a", row()), saved("b", slow)
    assert compare(*files, "--fail-if-slower", "5%") == 0
    assert "| 1.000 |" in capsys.readouterr().out


def test_what_the_second_run_lacks_shuts_the_gate_and_is_named(saved, capsys):
    broken = Row(CASE, "open_clip", reason="ImportError: half installed")
    files = saved("a", row(), row("open_clip"), row("gone")), saved("b", row(), broken)
    assert compare(*files) == 0
    assert capsys.readouterr().err.endswith(": 1 within noise, 2 only in the first\n")
    assert compare(*files, "--fail-if-slower", "5%") == 1
    told = capsys.readouterr()
    why = {"open_clip": "ImportError: half installed", "gone": "it has no such row"}
    for name, reason in why.items():
        line = f"{name} on random-64x32-float32-scale100: {reason}\n"
        assert f"\n- {line}" in told.out
        assert f"fastclip bench compare: the second run has no time for {line}" in told.err


def test_a_provider_that_fails_alone_in_the_second_run_is_refused_with_its_reason(saved, capsys):
    broken = Row(CASE, "fastclip/cpu", reason="ImportError: half installed")
    assert compare(saved("a", row()), saved("b", broken), "--fail-if-slower", "5%") == 2
    assert "float32-scale100: ImportError: half installed" in capsys.readouterr().err


def test_only_equal_keys_are_compared_and_others_are_listed(saved, capsys):
    other = Case(N=128, D=32)
    files = (
        saved("a", row(), row("open_clip"), row(what="forward")),
        saved("b", row(), row(case=other), row("broken", seconds=times(3.0))),
    )
    assert compare(*files) == 0
    printed = capsys.readouterr().out
    assert "## Only in the first\n\n- open_clip on random-64x32" in printed
    assert (
        "- fastclip/cpu, forward on random-64x32-float32-scale100: it has no such row\n" in printed
    )
    assert "## Only in the second\n\n- fastclip/cpu on random-128x32" in printed
    assert printed.count("\n| ") == 1 + 1 + 1  # header, rule, one row


def test_another_machine_is_said(saved, capsys):
    assert compare(saved("a", row()), saved("b", row(), threads=8)) == 0
    printed = capsys.readouterr().out
    assert "## The machines differ, so times do too\n\n- threads: 1 and 8\n" in printed


@pytest.mark.parametrize(
    ("factor", "verdict", "statuses"), [(1.0, "cannot tell", (0, 1)), (1.3, "slower", (1, 1))]
)
def test_a_gate_between_machines_is_never_open_without_a_word(
    factor, verdict, statuses, saved, capsys
):
    files = saved("a", row()), saved("b", row(seconds=times(factor)), KMP_BLOCKTIME="0")
    for options, status in zip(([], ["--fail-if-unclear"]), statuses, strict=True):
        assert compare(*files, "--fail-if-slower", "5%", *options) == status
        told = capsys.readouterr()
        assert told.err == f"fastclip bench compare: 1 {verdict}\n"
        assert "- KMP_BLOCKTIME: not set and 0\n" in told.out
        assert ("the machines differ: measure both on one" in told.out) == (factor == 1.0)


def test_a_call_beyond_the_limit_is_told_to_raise_it(saved, capsys):
    once = row("new", seconds=[60.0])
    assert compare(saved("a", row(), once), "--base", "fastclip/cpu") == 0
    assert "use a larger --limit" in capsys.readouterr().out
    assert compare(saved("a", once), saved("b", once)) == 0
    printed = capsys.readouterr().out
    assert "1 round is too few, at least 4 are needed: a call slower than --limit" in printed
    assert "quieter" not in printed


def test_providers_of_one_run_are_compared_round_by_round(saved, capsys):
    drifting = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
    path = saved("a", row("old", seconds=drifting), row("new", seconds=times(1.2, drifting)))
    assert compare(path, "--base", "old", "--fail-if-slower", "10%") == 1
    printed = capsys.readouterr().out
    assert "| new on random-64x32-float32-scale100 |" in printed
    assert "| 1.200 | 1.200 to 1.200 |" in printed
    assert compare(path, "--base", "new", "--fail-if-slower", "10%") == 0


def test_a_provider_that_was_not_timed_is_named_and_unclear(saved, capsys):
    broken = Row(CASE, "new", reason="it ran out of memory")
    path = saved("a", row("old"), row("other"), broken)
    gate = "--base", "old", "--fail-if-slower", "10%"
    for options, status in ((), 0), (("--fail-if-unclear",), 1):
        assert compare(path, *gate, *options) == status
        told = capsys.readouterr()
        assert "## Not timed\n\n- new on random-64x32-float32-scale100: it ran out of" in told.out
        assert "1 not timed" in told.err
    # On a case that the base was not timed on, nothing is missing.
    elsewhere = dataclasses.replace(broken, case=Case(N=128, D=32))
    assert compare(saved("a", row("old"), row("other"), elsewhere), *gate, "--fail-if-unclear") == 0


def test_files_without_samples_cannot_be_judged(saved, capsys):
    old = row()
    old.timing = dataclasses.replace(old.timing, samples=(), matmul_samples=())
    assert compare(saved("a", old), saved("b", row()), "--fail-if-slower", "5%") == 0
    assert "a file of an earlier version has no samples of rounds" in capsys.readouterr().out


def test_few_rounds_cannot_be_judged(saved, capsys):
    files = saved("a", row(seconds=[1.0] * 3)), saved("b", row(seconds=[2.0] * 3))
    assert compare(*files, "--fail-if-slower", "5%") == 0
    assert "3 rounds are too few, at least 4 are needed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{a}", "nope.json"], "nope.json"),
        (["{a}"], "give either a second file or --base"),
        (["{a}", "{a}", "--base", "x"], "give either a second file or --base"),
        (["{a}", "{a}", "--fail-if-unclear"], "--fail-if-unclear needs --fail-if-slower"),
        (["{a}", "{other}"], "no provider is timed on the same case in both"),
        (["{a}", "{siglip}"], "results of 'clip' and of 'siglip' cannot be compared"),
        (["{a}", "--base", "x"], "'x' is not timed; the timed providers are fastclip/cpu"),
        (["{a}", "--base", "fastclip/cpu"], "no other provider is timed"),
        (["{family}", "--base", "fastclip/cpu"], "results of several losses cannot be compared"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, words, saved, capsys):
    names = {
        "a": saved("a", row()),
        "other": saved("other", row("open_clip")),
        "siglip": saved("siglip", row(), objective="siglip"),
        "family": saved("family", row(), objective=FAMILY),
    }
    assert compare(*(x.format(**names) for x in arguments)) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("fastclip bench compare: ") and words in told.err


def test_a_wrong_limit_is_refused(saved, capsys):
    path = saved("a", row())
    with pytest.raises(SystemExit) as stopped:
        compare(path, path, "--fail-if-slower", "much")
    assert stopped.value.code == 2
    assert "--fail-if-slower must be a fraction, such as 5% or 0.05" in capsys.readouterr().err


def test_a_newer_form_is_refused_by_its_version(saved, tmp_path, capsys):
    path = saved("a", row())
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(content | {"schema_version": 3}))
    assert compare(path, path) == 2
    assert "schema_version is 3, but this fastclip reads up to 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.06, 1.2, "slower"), (1.04, 1.2, "cannot tell"), (0.98, 1.05, "not slower")],
)
def test_a_verdict_is_of_all_of_the_interval(low, high, verdict):
    assert verdict_of(Interval(1.05, low, high), limit=0.05) == verdict
