""" "auto" takes a GPU's kernels where they are known to be right, and the fastest of them."""

import dataclasses

import pytest
import torch

import fastclip
from fastclip.backends import cuda, triton
from fastclip.backends.gpu import known, own_verdicts, verified
from fastclip.ops import choice, dispatch
from tests.support import fake_gpu

SHIPPED = verified.Verdict(
    "sm_90", "bfloat16", 512, "triton", "", 32768, 3.25, 11.5, "an H200", "2026-11-25", "make x"
)
CUDA = {"backend": "cuda", "variant": "hopper"}
CHUNKED = {"backend": "chunked", "variant": ""}


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Nothing is known of its GPU, and nothing is found out: a check would fail the test."""
    fake_gpu.install(monkeypatch, tmp_path)
    monkeypatch.setattr(choice, "CHECKED_AT_FIRST_USE", ())
    yield
    fake_gpu.new_process()


@pytest.fixture
def ship(monkeypatch):
    return lambda *rows: monkeypatch.setattr(verified, "table", lambda: rows)


def shipped(**changes) -> verified.Verdict:
    return dataclasses.replace(SHIPPED, **changes)


def own(backend="triton", variant="", step_ms=1.5, reason="", **changes):
    N, forward_ms = (None, None) if step_ms is None or reason else (8192, step_ms / 4)
    row = own_verdicts.OwnVerdict(
        own_verdicts.environment(backend, torch.device("cpu")), backend, variant, "bfloat16", 512,
        reason == "", reason, "verify", "2026-11-30", N, forward_ms, None if N is None else step_ms,
    )  # fmt: skip
    return dataclasses.replace(row, **changes)


def features(D=512, dtype=torch.bfloat16):
    return torch.ones(8, D, dtype=dtype)


def auto(*args, **kwargs) -> str:
    fake_gpu.new_process()
    return dispatch.resolve_backend("auto", features(*args, **kwargs))


def reason_against(name: str, *args) -> str | None:
    return fastclip.explain_backends(features(*args))[name]


NOTHING = pytest.mark.filterwarnings("ignore:backend=.auto. takes 'chunked'")


@NOTHING
def test_where_nothing_is_known_kernels_run_only_if_named():
    assert auto() == "chunked"
    for name in ("triton", "cuda"):
        assert reason_against(name) == (
            f"The backend '{name}' would run here, but nothing has verified it on this GPU (Fake "
            "H200, bfloat16, D up to 512); run `fastclip verify` (a few minutes at most)."
        )
    assert {"triton", "cuda"} <= set(fastclip.available_backends(features()))


@NOTHING
def test_the_fastest_is_taken_at_the_class_of_D_and_dtype(ship):
    ship(
        SHIPPED, shipped(**CUDA, step_ms=10.0),
        shipped(D=1024), shipped(**CUDA, D=1024, step_ms=20.0),
        shipped(dtype="float32", **CUDA),
    )  # fmt: skip
    assert auto(512) == auto(3) == "cuda"
    assert auto(1024) == auto(769) == auto(4096) == "triton"
    assert auto(768) == "chunked"
    assert auto(512, torch.float32) == "cuda"
    assert auto(512, torch.float16) == "chunked"
    assert reason_against("cuda") is None
    assert reason_against("triton") == (
        "The backend 'triton' is correct on this GPU (Fake H200, bfloat16, D up to 512), but "
        "'cuda' is faster: a step of 32768 pairs takes 11.5 ms against 10 ms, measured on "
        "2026-11-25."
    )


@NOTHING
def test_what_was_verified_at_another_precision_is_not_taken(ship):
    ship(shipped(dtype="float32"))
    own_verdicts.record([own(dtype="float32", planes=2, **CUDA)])
    assert auto(512, torch.float32) == "cuda"
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert auto(512, torch.float32) == "chunked"
        for name in ("triton", "cuda"):
            assert reason_against(name, 512, torch.float32) == (
                f"The backend '{name}' would run here, but nothing has verified it on this GPU "
                "(Fake H200, float32 below 'highest' matmul precision, D up to 512); `fastclip "
                "verify` checks 'highest' precision only, and below it these kernels run only if "
                "they are named."
            )
        own_verdicts.record([own(dtype="float32", planes=1, step_ms=None)])
        assert auto(512, torch.float32) == "triton"
    finally:
        torch.set_float32_matmul_precision(before)
    assert auto(512, torch.float32) == "cuda"


@NOTHING
def test_what_was_verified_elsewhere_is_not_taken(ship):
    ship(shipped(architecture="sm_100"), shipped(backend="cuda", variant="portable", step_ms=4.0))
    assert auto() == "chunked"


def test_what_objects_is_no_rival(ship, monkeypatch):
    ship(SHIPPED, shipped(**CUDA, step_ms=10.0))
    monkeypatch.setattr(cuda, "unsupported", lambda device_type, dtype: "not built")
    assert auto() == "triton"
    assert reason_against("cuda") == "The backend 'cuda' cannot run here: not built."


def test_the_users_own_verdicts_win(ship):
    ship(SHIPPED, shipped(**CUDA, step_ms=10.0))
    own_verdicts.record([own(reason="its gradients were nan", **CUDA)])
    assert auto() == "triton"
    assert reason_against("cuda") == (
        "The backend 'cuda' failed its check on this GPU (Fake H200, bfloat16, D up to 512) on "
        "2026-11-30: its gradients were nan. `fastclip verify` (a few minutes at most) checks it "
        "again."
    )
    own_verdicts.record([own(step_ms=2.0), own(step_ms=1.0, **CUDA)])
    assert auto() == "cuda"
    own_verdicts.record([own(step_ms=0.5)])
    assert auto() == "triton"
    assert "'triton' is faster: a step of 8192 pairs takes 1 ms" in reason_against("cuda")


def test_times_of_shipped_and_own_rows_are_not_compared(ship):
    """They are of other batches: 11.5 ms at 32,768 pairs are faster than 1.5 ms at 8,192."""
    ship(shipped(**CUDA))
    own_verdicts.record([own()])
    assert auto() == "triton"
    assert reason_against("cuda").endswith("but 'triton' comes first.")


def test_a_slower_set_than_chunked_is_not_taken():
    own_verdicts.record([own(), own(step_ms=2.0, **CUDA), own(step_ms=1.25, **CHUNKED)])
    assert auto() == "chunked"  # without a warning: it is the fastest
    assert "but 'chunked' is faster: a step of 8192 pairs takes 1.5 ms" in reason_against("triton")
    own_verdicts.record([own(step_ms=1.75, **CHUNKED)])
    assert auto() == "triton"


@NOTHING
def test_what_failed_is_never_taken_unasked():
    reason = "the process hung"
    own_verdicts.record([own(reason=reason), own(reason=reason, **CUDA), own(**CHUNKED)])
    assert auto() == "chunked"
    assert dispatch.resolve_backend("triton", features()) == "triton"
    assert reason in reason_against("triton") and reason in reason_against("cuda")


def test_what_passed_without_times_is_taken_before_chunked():
    untimed = own(step_ms=None, source="self-check", primitive="contrastive_lse")
    own_verdicts.record([untimed, own(**CHUNKED)])
    assert auto() == "triton"
    own_verdicts.record([own(**CUDA)])  # with times
    assert auto() == "cuda"
    assert reason_against("triton").endswith("but 'cuda' comes first.")


@NOTHING
def test_a_check_of_one_primitive_is_none_of_another():
    own_verdicts.record([own(step_ms=None, source="self-check", primitive="siglip_sum")])
    assert auto() == "chunked"
    wanted = features()
    assert dispatch.resolve_backend("auto", wanted, primitive="siglip_sum") == "triton"
    own_verdicts.record([own(reason="wrong")])  # of `fastclip verify`, for all of them
    fake_gpu.new_process()
    assert dispatch.resolve_backend("auto", wanted, primitive="siglip_sum") == "chunked"


@NOTHING
def test_a_stale_row_is_ignored_and_the_reason_says_what_changed():
    before = dataclasses.replace(
        own_verdicts.environment("triton", torch.device("cpu")), driver="1.2", torch="2.0"
    )
    own_verdicts.record([own(environment=before)])
    assert auto() == "chunked"
    assert (
        "D up to 512) since the driver and torch's version changed (the last verdict is from "
        "2026-11-30); run `fastclip verify`"
    ) in reason_against("triton")


def test_a_shipped_row_is_not_lost_to_a_check_without_times(ship):
    ship(SHIPPED, shipped(**CUDA, step_ms=10.0))
    own_verdicts.record([own(step_ms=None, source="self-check")])
    assert auto() == "cuda"


def test_a_warning_names_every_set_of_kernels_and_the_command():
    with pytest.warns(UserWarning) as caught:
        assert auto() == "chunked"
    (warning,) = caught
    message = str(warning.message)
    assert "'triton' would run" in message and "'cuda' would run" in message
    assert message.count("run `fastclip verify` (a few minutes at most)") == 2


def test_a_request_that_no_kernels_take_asks_nothing(monkeypatch):
    monkeypatch.setattr(known, "findings", None)
    monkeypatch.setattr(triton, "unsupported", lambda *kind: "no")
    monkeypatch.setattr(cuda, "unsupported", lambda *kind: "no")
    assert auto() == "chunked"
