""" "auto" takes a GPU's kernels where the table says that they ran, and the fastest of them."""

import dataclasses

import pytest
import torch

import fastclip
from fastclip.backends import cuda, triton
from fastclip.backends.cuda import variants
from fastclip.backends.gpu import verified
from fastclip.ops import dispatch

ROW = verified.Verdict(
    "sm_90", "bfloat16", 768, "triton", "", 32768, 3.25, 11.5, "an H200", "2026-11-25", "make x"
)


def row(**changes) -> verified.Verdict:
    return dataclasses.replace(ROW, **changes)


@pytest.fixture
def on_a_hopper(monkeypatch):
    """Backends run on features without data as if they were on a GPU."""
    for backend in (triton, cuda):
        monkeypatch.setattr(backend, "unsupported", lambda device_type, dtype: None)
    monkeypatch.setattr(cuda, "variant_on", lambda device: "hopper")
    monkeypatch.setattr(dispatch, "architecture", lambda device: "sm_90")


@pytest.fixture
def plant(monkeypatch):
    def planted(*rows):
        monkeypatch.setattr(verified, "table", lambda: rows)

    return planted


def features(D=768, dtype=torch.bfloat16):
    return torch.empty(8, D, device="meta", dtype=dtype)


def auto(*args, **kwargs) -> str:
    return dispatch.resolve_backend("auto", features(*args, **kwargs))


def test_the_committed_table_is_well_formed():
    assert verified.read(verified.TABLE) == verified.table()


def test_the_table_knows_every_variant():
    known = {variant for backend, variant in verified.KERNELS if backend == "cuda"}
    assert known == set(variants.VARIANTS)


def test_without_rows_nothing_that_needs_a_gpu_is_taken(on_a_hopper, plant):
    plant()
    assert auto() == "chunked"
    found = fastclip.explain_backends(features())
    for name in ("triton", "cuda"):
        assert found[name] == (
            "unverified on sm_90: make gpu-check has not passed for bfloat16, D = 768"
        )
    assert {"triton", "cuda"} <= set(fastclip.available_backends(features()))


def test_auto_takes_the_fastest_at_the_dim_and_dtype(on_a_hopper, plant):
    of_cuda = {"backend": "cuda", "variant": "hopper"}
    plant(
        ROW, row(**of_cuda, step_ms=10.0),
        row(D=1024), row(**of_cuda, D=1024, step_ms=20.0),
        row(dtype="float32", **of_cuda),
    )  # fmt: skip
    assert auto(768) == auto(513) == "cuda"
    assert auto(1024) == auto(769) == auto(4096) == "triton"
    assert auto(512) == "chunked"
    assert auto(768, torch.float32) == "cuda"
    assert auto(768, torch.float16) == "chunked"
    reasons = fastclip.explain_backends(features())
    assert reasons["cuda"] is None and reasons["triton"] == (
        "slower than cuda here (11.5 ms against 10 ms, bfloat16, N = 32768, D = 768, 2026-11-25)"
    )
    assert "unverified" in fastclip.explain_backends(features(dtype=torch.float32))["triton"]


def test_what_is_not_verified_here_is_never_taken(on_a_hopper, plant):
    plant(
        row(architecture="sm_100"),
        # Not what runs on this GPU.
        row(backend="cuda", variant="portable", step_ms=4.0),
    )
    assert auto() == "chunked"


def test_what_objects_is_no_rival(on_a_hopper, plant, monkeypatch):
    plant(ROW, row(backend="cuda", variant="hopper", step_ms=10.0))
    monkeypatch.setattr(cuda, "unsupported", lambda device_type, dtype: "not built")
    assert auto() == "triton"
    assert fastclip.explain_backends(features())["cuda"] == "not built"


def test_a_table_that_is_written_is_read(tmp_path):
    rows = (row(command="make 'x, y'"), row(backend="cuda", variant="portable"))
    verified.write(tmp_path / "table.csv", rows)
    assert verified.read(tmp_path / "table.csv") == rows


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "cpu"},
        {"dtype": "int8"},
        {"D": 640},
        {"backend": "chunked"},
        {"variant": "hopper"},
        {"N": 0},
        {"forward_ms": 0.0},
        {"forward_ms": 12.0},
        {"step_ms": float("inf")},
        {"step_ms": float("nan")},
        {"device": ""},
        {"date": "yesterday"},
        {"command": ""},
    ],
    ids=str,
)
def test_malformed_rows_are_rejected(changes):
    with pytest.raises(ValueError):
        row(**changes)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda lines: lines[1:], "the first line must be architecture,"),
        (lambda lines: [*lines, lines[1]], "line 3: the same as"),
        (lambda lines: [*lines, ""], "line 3: 0 fields instead of 11"),
        (lambda lines: [lines[0], lines[1] + ",more"], "line 2: 12 fields"),
        (lambda lines: [lines[0], lines[1].replace("768", "many")], "line 2: invalid literal"),
    ],
)
def test_malformed_tables_are_rejected(tmp_path, change, message):
    path = tmp_path / "table.csv"
    verified.write(path, [ROW])
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    if message.endswith("11"):
        path.write_text(path.read_text() + "\n")
    with pytest.raises(ValueError, match=message):
        verified.read(path)


def test_a_compiled_loss_is_of_one_class_of_dims(monkeypatch):
    """What decides is a constant for the compiler, for a D that is none."""
    asked = []
    reason_against = dispatch._reason_against
    monkeypatch.setattr(
        dispatch, "_reason_against", lambda *kind: asked.append(kind[3]) or reason_against(*kind)
    )
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


def test_a_chosen_variant_is_that_of_every_thread():
    """As autograd's, in which a backward on a GPU runs."""
    from concurrent.futures import ThreadPoolExecutor

    with variants.chosen_variant("hopper"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(variants.variant_on, torch.device("cpu")).result() == "hopper"
    assert variants.variant_on(torch.device("cpu")) == "portable"
