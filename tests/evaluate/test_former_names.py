"""Modules under the names that they had, which are free for functions of the package."""

import pickle

import pytest
import torch

IMPORTS = [
    "from fastclip.evaluate.zero_shot import accuracy, class_features, classify",
    "from fastclip.evaluate.retrieval import DEFAULT_CHUNK, Retrieval, digests, distinct, nearest",
    "from fastclip.evaluate.retrieval import ranks, recall_at, retrieval",
    "import fastclip.evaluate.retrieval; fastclip.evaluate.retrieval.recall_at",
    "import fastclip.evaluate.zero_shot as z; z.classify",
    "import fastclip.evaluate.retrieval as r; r.recall_at; r.retrieval",
    "from fastclip.evaluate import retrieval, zero_shot; retrieval.ranks, zero_shot.accuracy",
    "from importlib import import_module as i; i('fastclip.evaluate.zero_shot').accuracy",
    "import fastclip.evaluate.ranking as n; from sys import modules as m; import fastclip.evaluate"
    ".retrieval as o; assert m['fastclip.evaluate.retrieval'] is n; assert o.ranks is n.ranks",
]
EACH_FIRST = """
import sys
import fastclip
for code in {}:
    for name in [name for name in sys.modules if name.startswith("fastclip.evaluate")]:
        del sys.modules[name]
    vars(fastclip).pop("evaluate", None)
    exec(code, {{}})
"""


def test_old_imports_work_before_any_other(fresh_process):
    done = fresh_process.run(EACH_FIRST.format(IMPORTS))
    assert done.returncode == 0, done.stderr


def test_the_functions_of_the_package_outlive_imports_of_modules_of_their_names():
    import fastclip.evaluate

    retrieval, zero_shot = fastclip.evaluate.retrieval, fastclip.evaluate.zero_shot
    import fastclip.evaluate.retrieval
    from fastclip.evaluate.retrieval import recall_at
    from fastclip.evaluate.zero_shot import accuracy

    assert fastclip.evaluate.retrieval is retrieval and retrieval.recall_at is recall_at
    assert fastclip.evaluate.zero_shot is zero_shot and zero_shot.accuracy is accuracy
    assert recall_at(1, torch.ones(1)) == 1
    found = fastclip.evaluate.retrieval(torch.eye(2), torch.eye(2), [0, 1])
    assert found.metrics["image_to_text_R@1"] == 1


def test_functions_are_imported_when_they_are_named_and_told_to_type_checkers(fresh_process):
    done = fresh_process.run("""
        import ast, sys
        from pathlib import Path
        import fastclip.evaluate as package
        assert not any("scores" in name or "probe" in name for name in sys.modules)
        tree = ast.parse(Path(package.__file__).read_text())
        (block,) = [node for node in tree.body if isinstance(node, ast.If)]
        told = {alias.asname: node.module for node in block.body for alias in node.names}
        assert told == package._MODULES and set(told) <= set(dir(package))
        of_features = [name for name in told if told[name].split(".")[2] in ("scores", "probe")]
        for name in of_features:
            assert getattr(package, name) is getattr(sys.modules[told[name]], name)
        assert len(of_features) > 4 and "PIL" not in sys.modules
        for name in told:
            assert getattr(package, name) is getattr(sys.modules[told[name]], name)
        assert not {"matplotlib", "sklearn", "scipy"} & set(sys.modules)
    """)
    assert done.returncode == 0, done.stderr


def test_other_names_are_none():
    import fastclip.evaluate

    with pytest.raises(AttributeError, match=r"'fastclip\.evaluate' has no attribute 'absent'"):
        fastclip.evaluate.absent  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        import fastclip.evaluate.absent


def test_ranks_that_were_pickled_under_the_old_name_are_read():
    from fastclip.evaluate.ranking import Retrieval

    old = pickle.dumps(Retrieval(1, 2), 0).replace(b"evaluate.ranking", b"evaluate.retrieval")
    assert pickle.loads(old) == Retrieval(1, 2)
