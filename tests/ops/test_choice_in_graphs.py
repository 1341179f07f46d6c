""" "auto" on a GPU while a graph is made: by a capture, an export, a compiler, torch.func."""

import warnings

import pytest
import torch

import fastclip
from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import known, own_verdicts
from fastclip.ops import choice
from tests.support import fake_gpu
from tests.support.fake_gpu import FEATURES, auto, refused, rows


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
