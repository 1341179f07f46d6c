"""A host is imported when a name of it is asked for, and not before (`tests/test_layers.py`)."""

import importlib
import re
import sys

import pytest

from fastclip.installation import install_command
from fastclip.integrations.host import import_host, joined

pytestmark = pytest.mark.fast
NAMES = {
    "transformers": ("ContrastiveTrainer", "transformers-trainer"),
    "sentence_transformers": ("MultipleNegativesRankingLoss", "sentence-transformers"),
}


@pytest.mark.parametrize("module", NAMES)
def test_name_without_its_host_is_an_error_that_says_what_installs_it(module, monkeypatch):
    name, extra = NAMES[module]
    ours = importlib.import_module(f"fastclip.integrations.{module}")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(vars(ours), name, raising=False)
    with pytest.raises(ModuleNotFoundError, match=re.escape(install_command(extra))):
        getattr(ours, name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = ours.nonsense


def test_what_the_host_lacks_is_named(tmp_path, monkeypatch):
    (tmp_path / "half_a_host.py").write_text("import what_is_not_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match=r"half_a_host.*what_is_not_there.*\[half\]"):
        import_host("half_a_host", "half")


def test_joined_class_is_made_once_and_has_the_modules_name():
    class Mixin:
        """What it is."""

        def told(self):
            return "ours, " + super().told()

    class Host:
        def told(self):
            return "theirs"

    module = {"__name__": "some.module"}
    kind = joined(module, "Loss", Mixin, Host)
    assert joined(module, "Loss", Mixin, Host) is kind is module["Loss"]
    assert (kind.__module__, kind.__qualname__, kind.__doc__) == (
        "some.module", "Loss", "What it is.",
    )  # fmt: skip
    assert kind().told() == "ours, theirs"
