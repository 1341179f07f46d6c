"""A named backend runs or raises its own objection; "auto" takes the first that has none."""

import pytest
import torch

import fastclip
from fastclip.backends.gpu import known, verified
from fastclip.ops import dispatch
from fastclip.ops.dispatch import Call
from fastclip.rectangle import Diagonal, Rectangle


def test_explain_backends_lists_all_in_the_order_of_auto():
    objections = fastclip.explain_backends()
    assert tuple(objections) == dispatch.ORDER
    assert fastclip.available_backends() == tuple(n for n, why in objections.items() if why is None)
    assert objections["reference"] is None and objections["chunked"] is None


def test_explain_backends_answers_for_the_given_features():
    objections = fastclip.explain_backends(torch.ones(2, 2, device="meta"))
    assert objections["cpu"] == (
        "The backend 'cpu' cannot run here: it needs features on the CPU, got meta."
    )


def test_named_backend_raises_its_own_objection():
    features = torch.ones(2, 2, device="meta")
    with pytest.raises(RuntimeError, match=r"backend 'cpu' cannot run: it needs features on"):
        fastclip.clip_loss(features, features, 10.0, backend="cpu")


def test_auto_takes_the_first_without_objection(monkeypatch):
    image = torch.nn.functional.normalize(torch.randn(8, 4), dim=1)
    cpu = dispatch.load_backend("cpu")
    assert dispatch.resolve_backend("chunked", image) == "chunked"
    monkeypatch.setattr(cpu, "unsupported", lambda device_type, dtype: "on holiday")
    assert dispatch.resolve_backend("auto", image) == "chunked"
    assert fastclip.explain_backends()["cpu"].endswith("cannot run here: on holiday.")
    with pytest.raises(RuntimeError, match="on holiday"):
        fastclip.clip_loss(image, image, 10.0, backend="cpu")
    monkeypatch.setattr(cpu, "unsupported", lambda device_type, dtype: None)
    assert dispatch.resolve_backend("auto", image) == "cpu"


def test_what_is_known_of_gpu_kernels_is_not_asked_about_features_on_a_cpu(monkeypatch):
    def asked(*args):
        raise AssertionError(f"asked about {args}")

    for module, name in ((verified, "dim_class"), (known, "findings"), (known, "choices")):
        monkeypatch.setattr(module, name, asked)
    image = torch.nn.functional.normalize(torch.randn(8, 4), dim=1).requires_grad_()
    for loss in (fastclip.clip_loss, fastclip.siglip_loss):
        loss(image, image, 10.0).backward()
    assert fastclip.explain_backends(image).keys() == set(dispatch.ORDER)
    with pytest.raises(AssertionError, match="asked about"):
        fastclip.explain_backends(image.to("meta"))


def test_a_plan_says_who_runs_what_is_kept_and_in_how_many_passes():
    image = torch.randn(8, 4)
    square = Rectangle(image, image, torch.tensor(1.0), Diagonal(0))
    learned = square._replace(rows=image.clone().requires_grad_())
    bias = torch.zeros((), requires_grad=True)

    def plan(primitive, backend, rectangle, workspace=None, *others):
        return dispatch.plan(primitive, backend, rectangle, workspace, *others)

    assert plan("contrastive_lse", "cpu", learned) == Call("cpu", None, kept_rows=8)
    assert plan("contrastive_lse", "cpu", learned, 4 * 8 * 3) == Call("cpu", 4 * 8 * 3, 3)
    assert plan("contrastive_lse", "cpu", square) == Call("cpu")
    assert plan("siglip_sum", "cpu", square, None, bias) == Call("cpu", kept_rows=8)
    assert plan("siglip_total", "chunked", learned) == Call("chunked")
    assert plan("siglip_total", "cpu", square, None, bias) == Call("cpu", one_pass=True)
    assert plan("siglip_total", "reference", learned) == Call("reference", one_pass=True)
    assert plan("siglip_total", "reference", square) == Call("reference")
    assert plan("siglip_sum", "reference", learned) == Call("reference")
    with torch.no_grad():
        assert plan("contrastive_lse", "cpu", learned) == Call("cpu")


def test_every_backend_offers_the_contract():
    functions = ("unsupported", "contrastive_lse", "contrastive_lse_backward", "siglip_sum",
                 "siglip_sum_backward")  # fmt: skip
    for name in dispatch.ORDER:
        backend = dispatch.load_backend(name)
        assert all(callable(getattr(backend, f)) for f in functions)
        assert backend.kept_layout("contrastive_lse", torch.float32).element_bytes >= 0
        assert hasattr(backend, "variant_on") == (name in ("triton", "cuda"))


def test_kept_rows_by_default_are_all_or_none_and_with_a_workspace_what_fits():
    def kept(N, workspace, dtype=torch.float32, backend="cpu"):
        return dispatch.kept_rows(backend, "contrastive_lse", N, N, dtype, workspace)

    assert kept(4096, None) == 4096 and kept(4097, None) == 0
    assert kept(4096, None, torch.bfloat16) == 4096 and kept(4096, None, torch.float64) == 0
    assert (
        kept(1000, 0) == 0 and kept(1000, 4 * 1000 * 250 + 1) == 250 and kept(1000, 1 << 40) == 1000
    )
    assert kept(1000, 1 << 40, backend="chunked") == 0
