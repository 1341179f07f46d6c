""" "auto" on a GPU: what it takes, and how often it asks."""

import pytest
import torch

import fastclip
from fastclip.backends import cuda, triton
from fastclip.backends.gpu import known, own_verdicts
from fastclip.ops import choice, dispatch
from fastclip.ops.choice import request_for
from tests.support import fake_gpu
from tests.support.fake_gpu import FEATURES, auto, nan, raising, refused, rows


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
    assert called.count("contrastive_lse") == 3  # the batches of one check


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


def test_a_name_needs_no_verdict(machine):
    called = machine(nan)
    assert dispatch.resolve_backend("triton", FEATURES) == "triton" and not called
    assert rows() == []
