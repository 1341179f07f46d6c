"""What is particular to the CUDA kernels; that they are right is tested in tests/backends/gpu."""

import ctypes
import re

import pytest
import torch

import fastclip
from fastclip.backends.cuda import library, unsupported
from fastclip.backends.cuda.variants import VARIANTS, chosen_variant
from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.compilers.cuda import LAUNCHES
from fastclip.benchmarks.gpu import small_step
from tests.support.emulator import ROOT, build, emulated
from tests.support.inputs import planted_features, square

pytestmark = pytest.mark.rehearsal

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="about the emulator")
KERNELS = sorted((ROOT / "csrc" / "cuda").rglob("*.cu"))
HEADINGS = ["Math", "Tiling", "Cost", "Numerics", "Limits", "Schedule", "Source"]


def run(inputs, loss=fastclip.clip_loss, **options):
    leaves = [x.detach().requires_grad_() for x in inputs]
    value = loss(*leaves, backend="cuda", **options)
    return value.detach(), torch.autograd.grad(value, leaves)


@needs_no_gpu
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("loss", [fastclip.clip_loss, fastclip.siglip_loss])
@pytest.mark.parametrize("normalize", [False, True])
def test_bfloat16_differs_in_the_first_load_and_the_last_store_only(variant, loss, normalize):
    """From the same numbers in float32, multiplied as float16 too, come the same bits."""
    features = planted_features(square(300, 72), "trained", torch.bfloat16)
    scalars = [torch.tensor(20.0), torch.tensor(-10.0)][: 1 if loss is fastclip.clip_loss else 2]
    options = {"normalize": normalize, "workspace": 96 << 20}  # 16 bits would keep their logits
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with emulated(), chosen_variant(variant):
            value, grads = run([*features, *scalars], loss, **options)
            wide, wide_grads = run([*(x.float() for x in features), *scalars], loss, **options)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(value, wide)
    # Those of the sigmoid loss are rounded before they are divided by the batch.
    rtol = 0.0 if loss is fastclip.clip_loss else 2.0**-6
    for grad, wide_grad in zip(grads, wide_grads, strict=True):
        torch.testing.assert_close(grad, wide_grad.to(grad.dtype), rtol=rtol, atol=0.0)


@needs_no_gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_bit_depends_on_the_order_of_threads_or_the_time_of_copies(variant):
    inputs = make_inputs(Case(300, 70, torch.float32, 30.0, "cone"))
    with chosen_variant(variant):
        found = []
        for seed, early in ((0, False), (1, False), (2, True)):
            with emulated(seed, early):
                value, grads = run(inputs, normalize=True)
                found.append([value, *grads])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needs_no_gpu
def test_the_report_knows_how_kernels_are_launched():
    with emulated():
        for variant in VARIANTS:
            with chosen_variant(variant):
                small_step.main("cuda", "cpu")
        launches = ctypes.CDLL(str(build())).fastclip_emulator_launches
        launches.restype = ctypes.c_char_p
        lines = [line.split() for line in launches().decode().splitlines()]
    assert {name: (int(threads), int(shared)) for name, threads, shared in lines} == LAUNCHES
    assert len(lines) == len(LAUNCHES)


@pytest.mark.parametrize(
    "name, capability, runs",
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 9), True),
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (10, 0), False),
        ("sm_100", (10, 3), True),
        ("compute_100", (12, 0), True),
        ("compute_100", (9, 0), False),
    ],
)
def test_on_which_gpus_compiled_code_runs(monkeypatch, name, capability, runs):
    monkeypatch.setattr(library, "architectures", lambda: (name,))
    objection = library.objection_to(capability)
    assert (objection is None) == runs
    if not runs:
        compiled_for = f"its kernels were compiled for {name}"
        assert f"{compiled_for}, not for sm_{capability[0]}{capability[1]}" == objection


@pytest.fixture
def forgotten():
    """What the process knows of its library is looked up again, and forgotten afterwards."""
    known = library.load, library.architectures
    for function in known:
        function.cache_clear()
    yield
    for function in known:
        function.cache_clear()


def test_a_machine_without_a_gpu_says_so():
    if library.load() is not None or torch.cuda.is_available():
        pytest.skip("needs a build, and no GPU")
    assert unsupported("cuda", torch.float32) == "there is no CUDA device"
    assert unsupported("cpu", torch.float32) == "there is no CUDA device"
    assert "needs float32, bfloat16 or float16, got float64" in unsupported("cuda", torch.float64)


def test_a_library_that_is_not_built_or_does_not_load_says_so(forgotten, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "_cuda.so")
    assert "are not built; install with a CUDA toolkit" in library.load()
    with pytest.raises(RuntimeError, match="are not built"):
        library.architectures()
    library.load.cache_clear()
    library.LIBRARY.write_text("no library")
    assert "the CUDA kernels do not load" in library.load()


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_say_what_they_are(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 400
    if "__global__" in path.read_text():
        head = "\n".join(lines[: next(i for i, x in enumerate(lines) if not x.startswith("//"))])
        assert re.findall(r"^// (\w+)$", head, re.MULTILINE) == HEADINGS
