"""`import open_clip` and `import clip` mean fastclip in a process that asked for it."""

import subprocess
import sys

import pytest


@pytest.fixture
def python(fresh_process):
    def run(code: str) -> str:
        done = fresh_process.run(code)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def test_open_clip_and_its_modules_are_fastclips(python):
    out = python("""
        import fastclip.compat.open_clip
        fastclip.compat.open_clip.install()
        fastclip.compat.open_clip.install()
        import open_clip, fastclip
        import open_clip.factory, open_clip.zero_shot_metadata as metadata
        from open_clip.loss import ClipLoss, CoCaLoss
        from open_clip.tokenizer import _tokenizer
        from open_clip import create_model_and_transforms, push_to_hf_hub
        assert ClipLoss is fastclip.ClipLoss and open_clip.create_model is fastclip.create_model
        assert open_clip.factory.list_models() == fastclip.list_models()
        assert open_clip.factory._MODEL_CONFIGS["ViT-B-32"]["embed_dim"] == 512
        assert metadata.IMAGENET_CLASSNAMES is fastclip.IMAGENET_CLASSNAMES
        assert _tokenizer.encode("a dog") == [320, 1929] and callable(push_to_hf_hub)
        try:
            import open_clip.nonsense
        except ModuleNotFoundError as error:
            print(error)
        assert CoCaLoss is fastclip.CoCaLoss
    """)
    assert "No module named 'open_clip.nonsense'" in out


def test_clip_and_its_modules_are_fastclips(python):
    python("""
        import fastclip.compat.clip
        fastclip.compat.clip.install()
        import clip, fastclip, torch
        from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
        from clip.model import build_model, convert_weights
        from clip import clip as inner
        assert clip.load is fastclip.load and inner.tokenize is clip.tokenize
        assert list(inner._MODELS) == clip.available_models()
        assert all(url.startswith("https://") for url in inner._MODELS.values())
        tokenizer = _Tokenizer()
        assert tokenizer.encode("a dog") == inner._tokenizer.encode("a dog") == [320, 1929]
        assert tokenizer.encoder["<|endoftext|>"] == 49407
        assert fastclip.simple_tokenizer is clip.simple_tokenizer
        assert fastclip.build_model is build_model and fastclip.convert_weights is convert_weights
        assert fastclip._MODELS is inner._MODELS
    """)


@pytest.mark.parametrize("name", ["open_clip", "clip"])
def test_a_package_that_is_already_imported_is_not_replaced(name, tmp_path, python):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("mine = 1\n")
    out = python(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import {name}
        import fastclip.compat.{name}
        try:
            fastclip.compat.{name}.install()
        except RuntimeError as error:
            print(error)
        assert {name}.mine == 1
    """)
    assert f"{name} is already imported, from {tmp_path}" in out
    assert "call install() before anything imports it" in out


def test_a_program_is_run_with_both(tmp_path, monkeypatch, fresh_process):
    (tmp_path / "program.py").write_text(
        "import sys, clip, open_clip, fastclip\n"
        "if __name__ == '__main__':\n"
        "    assert open_clip.ClipLoss is fastclip.ClipLoss and clip.load is fastclip.load\n"
        "    print(*sys.argv[1:])\n"
        "    sys.exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, "-m", "fastclip.compat"]
    done = subprocess.run(
        [*command, "program", "--a", "b"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (3, "--a b\n"), done.stderr
    done = fresh_process.run("""
        import runpy, sys
        sys.argv = ["fastclip.compat"]
        runpy.run_module("fastclip.compat", run_name="__main__", alter_sys=True)
    """)
    assert done.returncode == 2 and "python -m fastclip.compat MODULE ARGUMENTS" in done.stderr
