"""`import fastclip` in a fresh process: cheap, silent, and without anything optional."""

import subprocess
import sys
import textwrap


def python(code: str, *flags: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_import_is_silent_and_loads_nothing_optional():
    out = python("""
        import sys
        import torch
        before = set(sys.modules)
        import fastclip
        new = {name.split(".")[0] for name in set(sys.modules) - before}
        assert not new & {"triton", "sklearn", "matplotlib", "tqdm", "sympy"}, new
        assert not {"fastclip._C", "torch._dynamo", "fastclip.train"} & set(sys.modules)
    """)
    assert out == ""


def test_import_costs_little_beyond_torch():
    seconds = float(
        python("""
        import time
        import torch
        start = time.perf_counter()
        import fastclip
        print(time.perf_counter() - start)
    """)
    )
    assert seconds < 0.5


def test_without_the_native_module_the_rest_works_and_cpu_says_why():
    out = python("""
        import sys
        sys.modules["fastclip._C"] = None
        import torch, fastclip
        x = torch.nn.functional.normalize(torch.randn(8, 4), dim=1).requires_grad_()
        fastclip.clip_loss(x, x, 10.0).backward()
        assert fastclip.available_backends() == ("chunked", "reference")
        try:
            fastclip.clip_loss(x, x, 10.0, backend="cpu")
        except RuntimeError as error:
            print(error)
    """)
    assert "backend 'cpu' cannot run: the native module is not built" in out


def test_build_info_tells_how_the_native_module_was_built():
    import pytest

    from fastclip.backends import native

    if native.objection() is not None:
        pytest.skip(native.objection())
    info = native.build_info()
    assert info.keys() == {"compiler", "flags", "torch_version", "cpu_capability", "cuda_archs"}
    assert "-O3" in info["flags"] and info["cuda_archs"] == []
