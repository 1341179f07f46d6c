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
    "import fastclip.evaluate.retrieval as r; r.recall_at; assert r.__name__.endswith('ranking')",
    "from fastclip.evaluate import retrieval, zero_shot; retrieval.ranks, zero_shot.accuracy",
    "from importlib import import_module as i; i('fastclip.evaluate.zero_shot').accuracy",
    "import fastclip.evaluate.ranking as n, fastclip.evaluate.retrieval as o; assert o is n",
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


def test_a_function_of_the_package_outlives_imports_of_the_module_of_its_name(monkeypatch):
    import fastclip.evaluate

    def retrieval():
        pass

    monkeypatch.setattr(fastclip.evaluate, "retrieval", retrieval, raising=False)
    import fastclip.evaluate.retrieval
    from fastclip.evaluate.retrieval import recall_at

    assert fastclip.evaluate.retrieval is retrieval
    assert recall_at(1, torch.ones(1)) == 1


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
