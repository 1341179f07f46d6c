""" "auto" on a GPU of which nothing is known: Triton's kernels are compared with `chunked` once."""

import dataclasses
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch

import fastclip
from fastclip.backends import chunked, cuda, triton
from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import known, own_verdicts
from fastclip.ops import choice, dispatch
from fastclip.ops.choice import request_for
from tests.support import fake_gpu

FEATURES = torch.nn.functional.normalize(torch.arange(60.0).sin().view(6, 10), dim=1)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A fake GPU whose Triton is right, or makes a mistake; the calls of Triton's primitives."""

    def install(mistake=None):
        return fake_gpu.install(monkeypatch, tmp_path, mistake)

    yield install
    fake_gpu.new_process()


def auto(features=FEATURES, **options) -> str:
    return dispatch.resolve_backend("auto", features, **options)


def refused(**options) -> str:
    """What is warned of where "auto" takes `chunked`."""
    with pytest.warns(UserWarning) as caught:
        assert auto(**options) == "chunked"
    (warning,) = caught
    return str(warning.message)


def raising(error):
    def mistake(*args):
        raise error

    return mistake


def rows() -> list[own_verdicts.OwnVerdict]:
    return list(own_verdicts.read())


def test_kernels_that_agree_are_taken_and_the_verdict_is_kept(machine):
    called = machine()
    assert auto() == "triton" and called
    (row,) = rows()
    assert row.passed and row.source == "self-check" and row.primitive == "contrastive_lse"
    assert (row.backend, row.dtype, row.D, row.step_ms) == ("triton", "float32", 512, None)
    fake_gpu.new_process()
    called.clear()
    assert auto() == "triton" and not called  # the next process believes the file


@pytest.mark.parametrize("primitive", own_verdicts.PRIMITIVES)
def test_a_check_is_of_the_primitive_that_is_wanted(machine, primitive):
    called = machine()
    assert auto(primitive=primitive) == "triton"
    asked = primitive.replace("total", "sum")
    assert called and all(name.startswith(asked) for name in called)
    assert [row.primitive for row in rows()] == [primitive]


def test_losses_ask_for_their_primitive_once_for_a_device_dtype_and_class_of_D(
    machine, monkeypatch
):
    machine()
    asked = []
    decide = choice._decide
    monkeypatch.setattr(
        choice, "_decide", lambda name, wanted: asked.append(wanted) or decide(name, wanted)
    )
    scale = torch.tensor(10.0)
    for D in (10, 500, 512):
        image = torch.nn.functional.normalize(torch.ones(4, D), dim=1).requires_grad_()
        for _ in range(3):
            fastclip.clip_loss(image, image, scale).backward()
    assert [(w.D, w.primitive) for w in asked] == [(512, "contrastive_lse")]
    fastclip.siglip_loss(image, image, scale).backward()
    fastclip.siglip_loss(image.detach(), image.detach(), scale)
    assert [w.primitive for w in asked[1:]] == ["siglip_total", "siglip_sum"]
    monkeypatch.setattr(triton, "unsupported", raising(AssertionError("asked again")))
    fastclip.clip_loss(image, image, scale)


def test_threads_that_ask_at_once_check_once(machine):
    from concurrent.futures import ThreadPoolExecutor

    called = machine()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: auto(), range(8)))
    assert answers == ["triton"] * 8
    assert called.count("contrastive_lse") == 2  # the batches of one check


@pytest.fixture
def precision():
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


def test_a_choice_is_of_the_precision_of_products_it_was_made_at(machine, precision):
    """float32 features are two factors of 16 bits at "highest", and one below."""

    def wrong_below(name, results):
        is_right = torch.get_float32_matmul_precision() == "highest"
        return results if is_right else (2.0 * results[0], *results[1:])

    called = machine(wrong_below)
    assert auto() == "triton"
    precision("high")
    with pytest.warns(UserWarning, match="float32 below 'highest' matmul precision"):
        assert auto() == "chunked"
    assert {(row.dtype, row.planes, row.passed) for row in rows()} == {
        ("float32", 2, True), ("float32", 1, False),
    }  # fmt: skip
    called.clear()
    precision("medium")
    assert auto() == "chunked"  # the same products
    precision("highest")
    assert auto() == "triton" and not called
    fake_gpu.new_process()
    assert auto() == "triton" and not called
    assert fastclip.explain_backends(FEATURES)["triton"] is None
    precision("high")
    why = fastclip.explain_backends(FEATURES)["triton"]
    assert why.endswith("`fastclip verify --forget` has it checked again.")


def test_a_chosen_variant_asks_anew(machine):
    from fastclip.backends.cuda.variants import chosen_variant

    machine()
    assert auto() == "triton" and known.choices
    with chosen_variant("portable"):
        assert not known.choices
        assert auto() == "triton"
    assert not known.choices


def by_100_ulps(function, position):
    def mistake(name, results):
        if name != function:
            return results
        results = list(results)
        results[position] = results[position] * (1 + 100 * torch.finfo(torch.float32).eps)
        return tuple(results)

    return mistake


def out_of_shared_memory() -> Exception:
    try:
        from triton.runtime.errors import OutOfResources
    except ModuleNotFoundError:
        return RuntimeError("out of resource: shared memory")
    return OutOfResources(300_000, 232_448, "shared memory")


def nan(name, results):
    return (results[0].fill_(float("nan")), *results[1:])


@pytest.mark.parametrize(
    "mistake, what",
    [
        (by_100_ulps("contrastive_lse", 0), "the positives of contrastive_lse off by"),
        (by_100_ulps("contrastive_lse", 2), "the log-sum-exps of contrastive_lse off by"),
        (by_100_ulps("contrastive_lse_backward", 0), "the gradient of rows of"),
        (by_100_ulps("contrastive_lse_backward", 1), "the gradient of columns of"),
        (by_100_ulps("contrastive_lse_backward", 2), "the gradient of logit_scale of"),
        (nan, "off by nan"),
        (
            raising(RuntimeError("PassManager::run\n failed")),
            "RuntimeError: PassManager::run failed",
        ),
        (raising(out_of_shared_memory()), "out of resource: shared memory"),
    ],
    ids=["positive", "total", "rows", "columns", "scale", "nan", "compiler", "resources"],
)
def test_a_mistake_ends_in_chunked_with_one_warning(machine, mistake, what):
    machine(mistake)
    message = refused()
    assert what in message and "`fastclip verify`" in message and "Fake H200" in message
    (row,) = rows()
    assert not row.passed and row.source == "self-check" and what in row.reason
    assert auto() == "chunked"  # no second warning: they are errors here
    fake_gpu.new_process()
    called = machine()
    assert what in refused() and not called  # another process: the file is believed


def test_too_little_memory_says_nothing_of_the_next_process(machine):
    machine(raising(torch.OutOfMemoryError("CUDA out of memory")))
    assert "CUDA out of memory" in refused()
    assert rows() == []
    assert auto() == "chunked"
    fake_gpu.new_process()
    machine()
    assert auto() == "triton"


def test_where_chunked_fails_nothing_is_said_of_the_kernels(machine, monkeypatch):
    called = machine()
    with monkeypatch.context() as patch:
        patch.setattr(chunked, "contrastive_lse", raising(RuntimeError("not deterministic")))
        assert "'chunked' raised RuntimeError: not deterministic" in refused()
    assert rows() == [] and not called


def test_an_interrupted_check_is_made_again(machine):
    machine(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        auto()
    assert rows() == []
    machine()
    assert auto() == "triton"


def answers_once(monkeypatch):
    """The device waits for its work before the check, and never again."""
    waits = iter([lambda device: None])
    lost = raising(RuntimeError("lost"))
    monkeypatch.setattr(gpu_device, "synchronize", lambda device: next(waits, lost)(device))


def test_a_fault_of_before_the_check_is_the_callers(machine, monkeypatch):
    called = machine()
    earlier = raising(RuntimeError("device-side assert triggered"))
    monkeypatch.setattr(gpu_device, "synchronize", earlier)
    with pytest.raises(RuntimeError, match=r"^device-side assert triggered$"):
        auto()
    assert not called and not rows()


def test_a_context_that_chunked_lost_says_nothing_of_the_kernels(machine, monkeypatch):
    machine()
    answers_once(monkeypatch)
    monkeypatch.setattr(chunked, "contrastive_lse", raising(RuntimeError("CUDA error")))
    with pytest.raises(RuntimeError, match="lost the GPU's context"):
        auto()
    assert not rows()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
        subprocess.CalledProcessError(1, ["gcc"]),
    ],
    ids=["memory", "cublas", "no compiler", "compiler"],
)
def test_what_the_machine_lacks_is_no_lasting_verdict(machine, error):
    machine(raising(error))
    assert "failed its check" in refused() and not rows()
    fake_gpu.new_process()
    machine()
    assert auto() == "triton"


def test_a_lost_context_is_an_error_and_the_next_process_does_not_try_again(machine, monkeypatch):
    machine(raising(RuntimeError("CUDA error: an illegal memory access was encountered")))
    answers_once(monkeypatch)
    with pytest.raises(RuntimeError) as caught:
        auto()
    message = str(caught.value)
    assert 'backend="chunked"' in message and "`fastclip verify`" in message
    assert "lost the GPU's context" in message and "illegal memory access" in message
    (row,) = rows()
    assert not row.passed and "illegal memory access" in row.reason
    fake_gpu.new_process()
    called = machine()
    assert "illegal memory access" in refused() and not called


def test_a_check_that_took_its_process_down_is_not_repeated(machine, tmp_path):
    """The process dies in the middle of the check, as by a crash; so it does with a hang and a
    signal."""
    code = """
        import os, sys, pathlib, pytest
        from tests.support import fake_gpu
        from fastclip.ops import dispatch
        import torch
        fake_gpu.install(pytest.MonkeyPatch(), pathlib.Path(sys.argv[1]), lambda *_: os._exit(3))
        dispatch.resolve_backend("auto", torch.ones(4, 10))
    """
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], timeout=100, check=False
    )
    assert died.returncode == 3
    called = machine()
    (row,) = rows()
    assert row.source == "begun"
    assert "began on" in fastclip.explain_backends(FEATURES)["triton"]
    assert "crashed, hung or was stopped" in refused() and not called
    (row,) = rows()
    assert row.source == "self-check" and not row.passed


def test_another_process_that_checks_is_waited_for(machine, tmp_path, monkeypatch):
    code = """
        import sys, pathlib, pytest, time, torch
        from tests.support import fake_gpu
        from fastclip.ops import dispatch
        def slow(name, results):
            print("begun", flush=True)
            time.sleep(0.3)
            return results
        fake_gpu.install(pytest.MonkeyPatch(), pathlib.Path(sys.argv[1]), slow)
        assert dispatch.resolve_backend("auto", torch.ones(4, 10)) == "triton"
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"begun\n"
    called = machine()
    with monkeypatch.context() as patch:
        patch.setattr(own_verdicts, "SECONDS_FOR_ANOTHER", 0.0)
        assert "another process still checks it" in refused()
    fake_gpu.new_process()
    assert auto() == "triton" and not called  # its verdict, when it has ended
    other.communicate(timeout=100)
    assert other.returncode == 0


def test_where_nothing_can_be_written_a_verdict_is_of_this_process(machine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    called = machine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert auto() == auto() == "triton"
    assert called.count("contrastive_lse") == 2  # the batches of one check
    assert rows() == []
    machine(nan)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "off by nan" in refused()


def test_a_damaged_file_is_named_and_written_anew(machine, tmp_path):
    machine()
    own_verdicts.path().parent.mkdir()
    own_verdicts.path().write_text('{"verdicts": {}}')
    with pytest.warns(UserWarning, match=r"verdicts\.json is not used"):
        assert auto() == "triton"
    (row,) = rows()
    assert row.passed


def test_a_stale_verdict_counts_for_nothing(machine, monkeypatch):
    machine(nan)
    refused()
    environment = own_verdicts.environment
    monkeypatch.setattr(
        own_verdicts, "environment", lambda *kind: changed(environment(*kind), digest="other")
    )
    fake_gpu.new_process()
    called = machine()
    assert auto() == "triton" and called
    assert [row.passed for row in rows()] == [False, True]


def changed(environment, **changes):
    return dataclasses.replace(environment, **changes)


def test_a_question_runs_and_writes_nothing(machine, tmp_path):
    called = machine()
    found = fastclip.explain_backends(FEATURES)
    assert found["triton"] is None and found["chunked"] is None
    assert found["cpu"] == "The backend 'cpu' cannot run here: not on this machine."
    assert found["cuda"] == (
        "The backend 'cuda' would run here, but nothing has verified it on this GPU (Fake H200, "
        "float32, D up to 512); run `fastclip verify` (a few minutes at most)."
    )
    assert choice.checked_at_first_use(request_for(FEATURES)) == ("triton",)
    assert fastclip.available_backends(FEATURES) == ("triton", "cuda", "chunked", "reference")
    assert not called and not known.choices and list(tmp_path.iterdir()) == []


def test_without_triton_a_warning_says_what_makes_it_fast(machine, monkeypatch):
    machine()
    monkeypatch.setattr(triton, "unsupported", lambda *kind: "triton is not installed")
    assert "'cuda' would run here, but nothing has verified it" in refused()
    monkeypatch.setattr(cuda, "unsupported", lambda *kind: "not built")
    fake_gpu.new_process()
    assert auto() == "chunked"  # nothing can be done: no warning


def test_while_a_graph_is_captured_nothing_runs(machine, monkeypatch):
    called = machine()
    with monkeypatch.context() as patch:
        patch.setattr(gpu_device, "is_capturing", lambda device: True)
        assert "nothing can be checked" in refused() and not called
        assert rows() == []
    assert auto() == "triton"  # that was not this process's last word
    fake_gpu.new_process()
    with monkeypatch.context() as patch:
        patch.setattr(gpu_device, "is_capturing", lambda device: True)
        assert auto() == "triton"  # the stored verdict counts


class Loss(torch.nn.Module):
    def forward(self, image, text):
        return fastclip.clip_loss(image, text, 10.0)


@pytest.mark.parametrize("strict", [False, True])
def test_an_export_runs_nothing(machine, strict):
    called = machine()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exported = torch.export.export(Loss(), (FEATURES, FEATURES), strict=strict)
    assert any("nothing can be checked" in str(w.message) for w in caught) and not called
    assert ", chunked, " in str(exported.graph)
    assert auto() == "triton"
    again = torch.export.export(Loss(), (FEATURES, FEATURES), strict=strict)
    assert ", triton, " in str(again.graph)


def test_a_compiled_loss_checks_outside_of_fake_tensors(machine):
    called = machine()
    features = FEATURES.clone().requires_grad_()
    compiled = torch.compile(Loss(), fullgraph=True, backend="aot_eager")
    loss = compiled(features, features)
    assert called and [row.passed for row in rows()] == [True]
    expected = fastclip.clip_loss(features, features, 10.0, backend="chunked")
    torch.testing.assert_close(loss, expected)
    loss.backward()


def test_the_caller_is_not_seen_by_the_check(machine):
    from torch.fx.experimental.proxy_tensor import make_fx

    called = machine()

    def loss(x):
        return fastclip.clip_loss(x, x, 10.0)

    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        make_fx(torch.func.vmap(loss), tracing_mode="fake")(FEATURES[None])
    assert called and [row.passed for row in rows()] == [True]
    state = torch.random.get_rng_state()
    fake_gpu.new_process()
    own_verdicts.forget()
    torch.func.grad(loss)(FEATURES)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_name_needs_no_verdict(machine):
    called = machine(nan)
    assert dispatch.resolve_backend("triton", FEATURES) == "triton" and not called
    assert rows() == []


def test_a_compiled_loss_is_of_one_class_of_D(monkeypatch):
    """What decides is a constant for the compiler, for a D that is none."""
    asked = []
    decide = choice._decide
    monkeypatch.setattr(
        choice, "_decide", lambda name, wanted: asked.append(wanted.D) or decide(name, wanted)
    )
    known.forget_choices()
    compiled = torch.compile(fastclip.clip_loss, fullgraph=True, dynamic=True, backend="aot_eager")
    scale = torch.tensor(10.0)
    for D in (500, 400, 700):
        image = torch.nn.functional.normalize(torch.randn(6, D), dim=1)
        expected = fastclip.clip_loss(image, image, scale, backend="chunked")
        torch.testing.assert_close(compiled(image, image, scale), expected)
    assert set(asked) == {0}  # not a GPU
    asked.clear()
    for D in (500, 400, 700):
        image = torch.empty(6, D, device="meta")
        assert compiled(image, image, scale.to("meta")).device.type == "meta"
    assert set(asked) == {512, 768}
