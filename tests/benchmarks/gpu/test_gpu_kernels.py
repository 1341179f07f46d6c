"""The sets of kernels, and what is checked of one: a wrong one is found, and named."""

from itertools import product

import pytest
import torch

from fastclip.backends import cuda, triton
from fastclip.backends.cuda import kernels as cuda_kernels
from fastclip.backends.gpu import block_walk
from fastclip.backends.gpu.blocks import block_for
from fastclip.backends.gpu.logit_matrix import LogitMatrix
from fastclip.backends.gpu.precision import planes_for
from fastclip.backends.gpu.verified import DIMS, DTYPES, dim_class
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu import checks, correctness
from fastclip.benchmarks.gpu.agreement import agreement
from fastclip.benchmarks.gpu.kernels import (
    ALL,
    CHUNKED,
    Kernels,
    find_kernels,
    kernels_on,
    missing_from,
    sets_on,
)
from fastclip.benchmarks.gpu.verify import measure
from fastclip.benchmarks.gpu.watched import AHEAD_OF_TIME, COMPILING
from fastclip.benchmarks.ours import small_block_bytes
from fastclip.benchmarks.provider import Provider

pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs gpu-check itself"),
]
TRITON, PORTABLE, HOPPER = ALL


def test_kernels_are_found_by_their_names():
    assert [str(kernels) for kernels in ALL] == ["triton", "cuda-portable", "cuda-hopper"]
    assert find_kernels("cuda-hopper") == HOPPER and find_kernels("chunked") == CHUNKED
    assert str(Kernels("chunked")) == "chunked"


def test_what_is_compiled_already_comes_first_and_is_waited_for_less(all_kernels):
    assert sets_on("cpu") == [HOPPER, PORTABLE, TRITON]
    assert (HOPPER.patience, TRITON.patience) == (AHEAD_OF_TIME, COMPILING)


def test_without_a_gpu_backends_are_missing_and_say_why():
    assert kernels_on("cpu", torch.float32) == []
    assert "needs features on a GPU" in missing_from("cpu")["triton"]
    assert set(missing_from("cpu")) == {"triton", "cuda"}


def test_every_dtype_has_checks_of_every_class_of_D(monkeypatch):
    monkeypatch.setattr(correctness, "runs", lambda *kind: True)
    every = list(correctness.every_check(HOPPER, "cuda", False, TRITON))
    assert len({check.name for check in every}) == len(every)
    kinds = {(check.facts["dtype"], check.facts["D"]) for check in every}
    dtypes = "bfloat16", "float16", "float32"
    assert kinds == {(dtype, D) for dtype in dtypes for D in (None, 512, 768, 1024)}
    # A dtype is through before the next one begins, and what is beyond all comes last.
    names = [check.name.split()[0] for check in every]
    deciding = [check.facts["dtype"] for check in every[: names.index("offsets")]]
    assert deciding == sorted(deciding, key=dtypes.index)
    assert set(names[names.index("offsets") :]) == {"offsets", "agreement"}


def test_kernels_that_differ_are_named(emulated_kernels, monkeypatch):
    case = Case(70, 24, torch.float32, 100.0, "trained")
    found = agreement(PORTABLE, HOPPER, case)["errors"]
    assert found.keys() >= {"G", "sums of rows", "kept logits"}
    right, calls = cuda_kernels.from_kept, []

    def wrong(region, kept, scalars, block, vectors):
        right(region, kept, scalars, block, vectors)
        calls.append(block)
        if len(calls) == 2:  # the other set's
            block[0, 3, 5] += 0.01 * block.abs().max()

    monkeypatch.setattr(cuda_kernels, "from_kept", wrong)
    with pytest.raises(AssertionError, match="G from kept logits: 1 of "):
        agreement(PORTABLE, HOPPER, case)


def test_a_wrong_backend_fails_its_check(monkeypatch):
    case = Case(40, 16, torch.float32, 14.3, "random")
    assert checks.errors("chunked", "clip", case)["errors"]["loss"] < 1e-5
    find = checks.find_provider

    def wrong(objective, name):
        right = find(objective, name).build()
        return Provider(name, objective, lambda: lambda *x, **k: 1.01 * right(*x, **k))

    monkeypatch.setattr(checks, "find_provider", wrong)
    found = checks.errors("chunked", "clip", case)
    assert found["passed"] is False and "above its budget" in found["reason"]


@pytest.mark.parametrize("command", ["verify", "gpu-check"])
def test_adversarial_data_meets_a_backward_over_several_blocks(command, monkeypatch):
    """Of both objectives, for every dtype and class of D."""
    met = set()

    def blocks(backend, objective, case):
        num_bytes = small_block_bytes(torch.empty(0))
        block = block_for(case.N, case.N, case.D, num_bytes, planes_for(case.dtype))
        assert block.rows < case.N and block.cols < case.N and case.data == "adversarial"
        met.add((objective, str(case.dtype).removeprefix("torch."), dim_class(case.D)))

    monkeypatch.setattr(checks, "blocks", blocks)
    for module in (measure, correctness):
        monkeypatch.setattr(module, "runs", lambda *kind: True)
    every = {
        "verify": lambda: measure.every_check(HOPPER, "cuda"),
        "gpu-check": lambda: correctness.every_check(HOPPER, "cuda", False),
    }[command]
    for check in every():
        if check.name.startswith("blocks"):
            check.run()
    assert met == set(product(("clip", "siglip"), DTYPES, DIMS))


@pytest.mark.parametrize("objective", ["clip", "siglip"])
def test_a_sum_over_blocks_that_is_wrong_fails_its_check(objective, emulated_kernels, monkeypatch):
    case = Case(260, 24, torch.float16, 10.0, "adversarial")
    monkeypatch.setattr(checks, "small_block_bytes", lambda features: 0)  # a tile of 256 x 256
    with PORTABLE.chosen():
        assert "passed" not in checks.blocks("cuda", objective, case)
        right = block_walk.accumulate

        def wrong(out, block, values, first):
            right(out, block, values, True)

        monkeypatch.setattr(block_walk, "accumulate", wrong)
        assert "passed" not in checks.errors("cuda", objective, case)  # one block
        found = checks.blocks("cuda", objective, case)
    assert found["passed"] is False and "_features: error" in found["reason"]


def test_both_ways_of_the_backward_are_checked(emulated_kernels, monkeypatch):
    """With kept logits and without, whatever a backend does by default."""
    case, workspaces = Case(40, 24, torch.float16), []
    build = checks.build

    def seen(objective, backend, workspace):
        workspaces.append(workspace(torch.empty(40, 24, dtype=torch.float16)))
        return build(objective, backend, workspace)

    monkeypatch.setattr(checks, "build", seen)
    with PORTABLE.chosen():
        assert "passed" not in checks.kept("cuda", case)
    layout = cuda.kept_layout("contrastive_lse", torch.float16)
    assert [layout.num_rows(40, 40, num_bytes) for num_bytes in workspaces] == [0, 40]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_kernels_that_leave_out_nothing_fail_their_check(all_kernels, monkeypatch, dtype):
    case = Case(40, 24, dtype, 14.3, "random", normalize=True)
    assert "lse, 40 rows kept" in checks.intervals("triton", case)
    with monkeypatch.context() as planted:
        matrix_of = LogitMatrix.of
        planted.setattr(LogitMatrix, "of", lambda x: matrix_of(x)._replace(excluded=None))
        with pytest.raises(AssertionError, match="lse, 0 rows kept"):
            checks.intervals("triton", case)
    monkeypatch.delattr(triton, "TAKES_INTERVALS")
    assert checks.intervals("triton", case) == {"skipped": "triton does not take intervals"}
