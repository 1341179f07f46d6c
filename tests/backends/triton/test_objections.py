"""What Triton's backend says where it cannot run."""

import torch

from fastclip.backends import triton as backend


def test_objections_name_what_is_missing(monkeypatch):
    if not torch.cuda.is_available():
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    unsupported = backend.unsupported
    assert "needs float32, bfloat16 or float16, got float64" in unsupported("cpu", torch.float64)
    assert "needs features on a GPU, got meta" in unsupported("meta", torch.float32)
    if not torch.cuda.is_available():
        assert "bfloat16 wrongly" in unsupported("cpu", torch.bfloat16)
        assert "interpreter needs features on the CPU" in unsupported("cuda", torch.float32)
        monkeypatch.delenv("TRITON_INTERPRET")
        assert unsupported("cuda", torch.float32) == "there is no CUDA device"
        assert "needs features on a GPU, got cpu" in unsupported("cpu", torch.float32)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert unsupported("cuda", torch.float32) == "triton is not installed"
