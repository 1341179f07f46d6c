"""`fastclip verify` on all kernels, emulated: verdicts, and what a planted fault comes to."""

import datetime

import pytest
import torch

import fastclip
from fastclip import cli
from fastclip.backends import cpu
from fastclip.backends.cuda.variants import chosen_variant
from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import known, own_verdicts, verified
from fastclip.benchmarks.gpu import worker
from fastclip.benchmarks.gpu.kernels import ALL, find_kernels
from fastclip.benchmarks.gpu.verify import measure, verification
from fastclip.benchmarks.gpu.verify.verification import Finding, verdicts
from fastclip.ops.dispatch import resolve_backend
from tests.support import planted_kernels
from tests.support.planted_kernels import plant

pytestmark = [
    pytest.mark.rehearsal,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
TRITON, PORTABLE, HOPPER = ALL
CPU = torch.device("cpu")
KIND = "float16", 512
FEATURES = torch.eye(6, 24, dtype=torch.float16)


@pytest.fixture
def small(monkeypatch, tmp_path, once_timed):
    """A file of verdicts of this test's, one dtype, one class of D, and sizes for an emulator."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measure, "DTYPES", KIND[:1])
    monkeypatch.setattr(measure, "SIZES", {KIND[1]: ((24, 24), (20, 40))})
    monkeypatch.setattr(measure, "DATA", ("random",))
    monkeypatch.setattr(measure, "CUT", 24)
    monkeypatch.setattr(measure, "TIMED", 24)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """For "auto", the CPU is one, and nothing is known of it but what its user's file says."""
    monkeypatch.setattr(gpu_device, "is_gpu", lambda device: True)
    monkeypatch.setattr(verified, "table", lambda: ())
    monkeypatch.setattr(cpu, "unsupported", lambda *kind: "not on this machine")
    known.forget_choices()
    yield
    known.forget_choices()


def found() -> dict[str, own_verdicts.OwnVerdict]:
    """By kernels and rivals; all about one dtype and class of D."""
    rows = own_verdicts.read()
    assert all(own_verdicts.is_current(row, CPU) and row.source == "verify" for row in rows)
    return {"-".join(filter(None, row.kernels)): row for row in rows if (row.dtype, row.D) == KIND}


def test_every_set_is_verified_and_timed(all_kernels, forked_workers, small, capsys):
    assert cli.main(["verify", "--device", "cpu", "--seconds", "5000"]) == 0
    rows = found()
    assert set(rows) == {*map(str, ALL), "chunked", "eager"}
    for row in rows.values():
        assert row.passed and row.N == 24 and 0.0 < row.forward_ms < row.step_ms
        assert row.date == datetime.date.today().isoformat()
    said = capsys.readouterr().out
    assert "Verifying cuda-hopper, cuda-portable, triton on cpu" in said
    assert "cuda-portable, float16, D up to 512: a step of 24 pairs: cuda-portable " in said
    assert "triton is right for float16 (D up to 512); a step takes " in said
    assert str(own_verdicts.path()) in said

    assert cli.main(["verify", "--show"]) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "cuda-hopper" in line]
    assert line.split()[:7] == ["cpu", "cuda-hopper", "float16", "D", "up", "to", "512"]
    assert line.endswith("yes")
    assert cli.main(["verify", "--forget"]) == 0
    assert "Forgot 5 verdicts" in capsys.readouterr().out and own_verdicts.read() == ()


@pytest.mark.parametrize(
    "fault, reason",
    [
        (planted_kernels.be_off_by_100_ulps, "image_features: error "),
        (planted_kernels.be_nan, "image_features: error nan above its budget"),
        (planted_kernels.hang, "hung: nothing for 2 s"),
        (planted_kernels.crash, "took its process down: SIGABRT"),
        (planted_kernels.lose_the_device, "an illegal memory access"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_fault_fails_its_set_and_no_other(
    fault, reason, emulated_kernels, forked_workers, small, on_a_gpu, request, monkeypatch, capsys
):
    if fault is planted_kernels.hang:
        request.getfixturevalue("impatient_with_hopper")
    plant(monkeypatch, fault)
    assert cli.main(["verify", "--device", "cpu", "--seconds", "5000"]) == 1
    rows = found()
    assert rows["cuda-portable"].passed and not rows["cuda-hopper"].passed
    assert rows["cuda-hopper"].reason.startswith("errors cuda-hopper clip ")
    assert reason in rows["cuda-hopper"].reason
    said = capsys.readouterr().out
    assert "cuda-hopper FAILED for " in said and reason in said
    # What follows for "auto", where Hopper's kernels are those of `cuda`.
    with chosen_variant("hopper"):
        with pytest.warns(UserWarning, match=r"failed its check .*`fastclip verify`"):
            assert resolve_backend("auto", FEATURES) == "chunked"
        why = fastclip.explain_backends(FEATURES)["cuda"]
    assert "failed its check" in why and reason in why and "`fastclip verify`" in why
    if fault in (planted_kernels.hang, planted_kernels.crash, planted_kernels.lose_the_device):
        # A process that did not survive says nothing good of any other dtype either.
        failed = {row.dtype for row in own_verdicts.read() if row.kernels == ("cuda", "hopper")}
        assert failed == {"bfloat16", "float16", "float32"}
    assert cli.main(["verify", "--show"]) == 0
    assert "FAILED" in (said := capsys.readouterr().out) and reason in said


def test_what_had_no_time_has_no_verdict(emulated_kernels, forked_workers, small, capsys):
    assert cli.main(["verify", "--device", "cpu", "--seconds", "0.01"]) == 2
    assert found() == {} and "no time for a verdict" in capsys.readouterr().err


def test_a_set_that_does_not_start_in_its_time_is_named(
    emulated_kernels, forked_workers, small, monkeypatch, capsys
):
    watch_checks = verification.watch_checks

    def watch(stage, request, patience, end, record):
        end = 0.0 if request["kernels"] == "cuda-hopper" else end
        return watch_checks(stage, request, patience, end, record)

    monkeypatch.setattr(verification, "watch_checks", watch)
    assert cli.main(["verify", "--device", "cpu", "--seconds", "5000"]) == 0
    said = capsys.readouterr().out
    assert "cuda-portable is right for float16 (D up to 512)" in said
    assert (
        "cuda-hopper has no verdict for bfloat16 (every D) and float16 (every D) and float32 "
        "(every D), because the time ran out: `fastclip verify --seconds` gives it more time."
    ) in said
    assert set(found()) == {"cuda-portable", "chunked", "eager"}


def test_rows_of_a_file_that_are_elsewhere_are_stale(small, capsys):
    finding = Finding(HOPPER, *KIND, True, "", 24, {"cuda-hopper": [1.0, 2.0]})
    (row,) = verdicts([finding], CPU)
    other = own_verdicts.Environment(**vars(row.environment) | {"driver": "another"})
    own_verdicts.record([own_verdicts.OwnVerdict(**vars(row) | {"environment": other})])
    assert cli.main(["verify", "--show"]) == 0
    assert capsys.readouterr().out.strip().endswith("no, stale")


def test_a_verdict_is_of_torchs_default_precision(monkeypatch):
    """Of which the processes are that measure, whatever is set."""
    finding = Finding(HOPPER, "float32", 512, True, "", 24, {"cuda-hopper": [1.0, 2.0]})
    (row,) = verdicts([finding], CPU)
    assert row.planes == 2
    monkeypatch.setattr(measure, "run", lambda **request: None)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        worker.main(["verify.measure", '{"device": "cpu"}'])
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


def test_times_that_a_clock_cannot_tell_apart_are_left_out():
    finding = Finding(find_kernels("triton"), *KIND, True, "", 24, {"triton": [2.0, 2.0]})
    (row,) = verdicts([finding], CPU)
    assert row.passed and row.N is row.forward_ms is row.step_ms is None
