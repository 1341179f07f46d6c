"""Imports point down: cli -> commands, compat, benchmarks, integrations -> demo -> serve, train ->
evaluate, search -> embeddings -> models -> data, losses -> functional -> distributed -> ops ->
backends -> rectangle. Backends import neither each other nor the layers above."""

import ast
import functools
from pathlib import Path

import pytest

import fastclip

pytestmark = pytest.mark.fast
PACKAGE = Path(fastclip.__file__).parent
LAYERS = [
    {
        "atomic_file",
        "confidence",
        "counted",
        "drawing",
        "file_lock",
        "hub",
        "installation",
        "literals",
        "new_directory",
        "printable",
        "process_memory",
        "progress",
        "rectangle",
        "reference",
    },
    {"backends"},
    {"ops"},
    {"distributed"},
    {"functional", "batch_curve"},
    {"losses", "data"},
    {"models"},
    {"embeddings"},
    {"evaluate", "search"},
    {"serve", "train"},
    {"demo"},
    {"benchmarks", "commands", "compat", "integrations"},
    {"cli", "__main__"},
]
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
OPTIONAL = {
    "triton",
    "sklearn",
    "matplotlib",
    "tqdm",
    "open_clip",
    "transformers",
    "huggingface_hub",
    "wandb",
    "yaml",
}
OPTIONAL |= {"torchvision", "timm", "tokenizers", "datasets", "pyarrow", "faiss", "lance", "ray"}
OPTIONAL |= {"starlette", "uvicorn", "onnx", "onnxruntime"}
OPTIONAL |= {"accelerate", "lightning", "open_clip_train", "sentence_transformers"}


def layer(module: str) -> int:
    (found,) = [i for i, names in enumerate(LAYERS) if module in names]
    return found


@functools.cache
def imported(path: Path, top_level_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def inside(path: Path) -> list[str]:
    return [n.split(".")[1:] for n in imported(path) if n.split(".")[0] == "fastclip"]


def test_modules_import_only_their_own_or_a_lower_layer():
    upward = []
    for path in MODULES:
        own = layer(path.relative_to(PACKAGE).with_suffix("").parts[0])
        upward += [
            f"{path.relative_to(PACKAGE)} imports fastclip.{'.'.join(name)}"
            for name in inside(path)
            if name[0] != "__version__" and layer(name[0]) > own
        ]
    assert not upward


def test_backends_do_not_import_each_other():
    shared = {"native", "normalization", "kept_logits", "both_sides", "gpu"}
    for path in sorted((PACKAGE / "backends").rglob("*.py")):
        own = path.relative_to(PACKAGE / "backends").with_suffix("").parts[0]
        backends = {name[1] for name in inside(path) if name[0] == "backends" and len(name) > 1}
        assert backends <= shared | {own}, path


def test_optional_packages_are_imported_where_they_are_used():
    for path in MODULES:
        found = {n.split(".")[0] for n in imported(path, top_level_only=True)} & OPTIONAL
        # The kernels are Triton's; the package's own file, which is always imported, is not. The
        # server is Starlette's, and its room is imported by what serves.
        kernels = path.parent == PACKAGE / "backends" / "triton" and path.name != "__init__.py"
        server = path.parent == PACKAGE / "serve" and path.name != "__init__.py"
        assert found <= ({"triton"} if kernels else {"starlette"} if server else set()), path


def test_what_gpu_backends_share_knows_no_kernels():
    paths = sorted((PACKAGE / "backends" / "gpu").glob("*.py"))
    assert paths
    for path in paths:
        assert not any(name.split(".")[0] == "triton" for name in imported(path))


def test_models_and_losses_do_not_import_each_other():
    for path in (PACKAGE / "models").rglob("*.py"):
        assert not any(name[0] == "losses" for name in inside(path))
    for path in (PACKAGE / "losses").rglob("*.py"):
        assert not any(name[0] == "models" for name in inside(path))


def test_search_and_evaluate_do_not_import_each_other():
    for own, other in (("search", "evaluate"), ("evaluate", "search")):
        for path in (PACKAGE / own).rglob("*.py"):
            assert not any(name[0] == other for name in inside(path))
