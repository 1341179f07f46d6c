"""`import fastclip` in a fresh process: cheap, silent, and without anything optional."""

import pytest


@pytest.fixture
def python(fresh_process):
    def run(code: str) -> str:
        done = fresh_process.run(code)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run


def test_import_is_silent_and_loads_nothing_optional(python):
    out = python("""
        import sys
        import torch
        before = set(sys.modules)
        import fastclip
        new = {name.split(".")[0] for name in set(sys.modules) - before}
        assert not new & {"triton", "sklearn", "matplotlib", "tqdm", "sympy"}, new
        assert not new & {"torchvision", "timm", "transformers", "huggingface_hub"}, new
        assert not new & {"PIL", "ftfy", "regex", "safetensors"}, new
        assert not {"torch._dynamo", "fastclip.train"} & set(sys.modules)
        assert not any(name.startswith("fastclip._C") for name in sys.modules)
    """)
    assert out == ""


def test_encoders_need_none_of_the_packages_that_peers_need(python):
    out = python("""
        import sys
        absent = ("torchvision", "timm", "transformers", "huggingface_hub", "tokenizers", "tqdm")
        for name in absent:
            sys.modules[name] = None
        import tempfile, torch, fastclip
        from PIL import Image
        model, train, preprocess = fastclip.create_model_and_transforms("ViT-S-32-alt")
        image = preprocess(Image.new("RGB", (300, 200), "red"))[None]
        assert train(Image.new("RGB", (300, 200))).shape == (3, 224, 224)
        tokens = torch.randint(1, 49000, (2, 77))
        with tempfile.TemporaryDirectory() as directory:
            for layout in ("open_clip", "hf"):
                fastclip.save_pretrained(model, f"{directory}/{layout}", layout)
                again = fastclip.create_model(f"local-dir:{directory}/{layout}")
                assert torch.equal(again.encode_text(tokens), model.encode_text(tokens))
            torch.save(model.state_dict(), f"{directory}/weights.pt")
            loaded, _ = fastclip.load(f"{directory}/weights.pt", "cpu", activation="gelu")
            loaded(image, tokens)
            fastclip.load_checkpoint(model, f"{directory}/weights.pt")
        with torch.device("meta"):
            fastclip.create_model("ViT-B-16-SigLIP2-256", device="meta", load_weights=False)
        try:
            fastclip.get_tokenizer("ViT-B-16-SigLIP2-256")
        except ModuleNotFoundError as error:
            assert 'pip install "transformers' in str(error)
        print(fastclip.tokenize("a dog")[0, :4].tolist())
    """)
    assert out == "[49406, 320, 1929, 49407]\n"


def test_names_that_are_imported_later_are_told_to_type_checkers_too():
    import ast
    from pathlib import Path

    import fastclip

    tree = ast.parse(Path(fastclip.__file__).read_text())
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    told = {alias.asname: node.module for node in block.body for alias in node.names}
    assert told == fastclip._MODULES
    at_once = (
        "ClipLoss SigLipLoss ClipStats clip_loss siglip_loss available_backends explain_backends"
    )
    public = {name for name in told if not name.startswith("_")} | set(at_once.split())
    assert {name for name in dir(fastclip) if not name.startswith("__")} == public
    for name in told:
        assert getattr(fastclip, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = fastclip.nonsense


@pytest.mark.alone
def test_import_costs_little_beyond_torch(python):
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


def test_without_the_native_module_the_rest_works_and_cpu_says_why(python):
    out = python("""
        import sys, warnings, torch
        sys.modules["fastclip._C_torch" + "_".join(torch.__version__.split(".")[:2])] = None
        import fastclip
        x = torch.nn.functional.normalize(torch.randn(8, 4), dim=1).requires_grad_()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            fastclip.clip_loss(x, x, 10.0, backend="chunked").backward()
            assert not warned
            for _ in range(2):
                fastclip.clip_loss(x, x, 10.0).backward()
                fastclip.siglip_loss(x, x, 10.0, -10.0)
        [warning] = warned
        assert "the native module is not built" in str(warning.message)
        assert "--no-build-isolation" in str(warning.message)
        assert fastclip.available_backends() == ("chunked", "reference")
        try:
            fastclip.clip_loss(x, x, 10.0, backend="cpu")
        except RuntimeError as error:
            print(error)
    """)
    assert "backend 'cpu' cannot run: the native module is not built" in out


def test_build_info_tells_how_the_native_module_was_built():
    from fastclip.backends import native

    if native.load() is not None:
        pytest.skip(native.load())
    info = native.build_info()
    assert info.keys() == {"compiler", "flags", "torch_version", "cpu_capability"}
    assert "-O3" in info["flags"]
