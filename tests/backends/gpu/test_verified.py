"""The shipped table of kernels that ran correctly, and what it refuses to hold."""

import dataclasses

import pytest
import torch

from fastclip.backends.cuda import variants
from fastclip.backends.gpu import verified

ROW = verified.Verdict(
    "sm_90", "bfloat16", 768, "triton", "", 32768, 3.25, 11.5, "an H200", "2026-11-25", "make x"
)


def row(**changes) -> verified.Verdict:
    return dataclasses.replace(ROW, **changes)


def test_the_committed_table_is_well_formed():
    assert verified.read(verified.TABLE) == verified.table()


def test_the_table_knows_every_variant():
    known = {variant for backend, variant in verified.KERNELS if backend == "cuda"}
    assert known == set(variants.VARIANTS)


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
        (lambda lines: [*lines, lines[1]], "line 3: it has the kernels"),
        (lambda lines: [*lines, ""], "line 3: it has 0 fields instead of 11"),
        (lambda lines: [lines[0], lines[1] + ",more"], "line 2: it has 12 fields"),
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


def test_every_D_has_a_class_and_words():
    classes = {D: verified.dim_class(D) for D in (1, 512, 513, 768, 769, 1024, 4096)}
    assert classes == {1: 512, 512: 512, 513: 768, 768: 768, 769: 1024, 1024: 1024, 4096: 1024}
    words = [verified.words_for(dim) for dim in verified.DIMS]
    assert words == ["D up to 512", "D from 513 to 768", "D above 768"]


def test_a_chosen_variant_is_that_of_every_thread():
    """As autograd's, in which a backward on a GPU runs."""
    from concurrent.futures import ThreadPoolExecutor

    with variants.chosen_variant("hopper"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(variants.variant_on, torch.device("cpu")).result() == "hopper"
    assert variants.variant_on(torch.device("cpu")) == "portable"
