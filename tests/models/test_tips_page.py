"""docs/encoders-tips.md: its example runs, and its table names the models that are there."""

import re
from pathlib import Path

import pytest

from fastclip.models import registry
from fastclip.models.towers.tips.presets import MODELS
from tests.support.tips_towers import TIPS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoders-tips.md"


@pytest.fixture
def page():
    if not PAGE.is_file():
        pytest.skip("docs/ is not beside the tests")
    return PAGE.read_text(encoding="utf-8")


def test_the_example_runs(page, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    monkeypatch.setitem(registry.architectures, "TIPS-v2-B-14", TIPS)  # a small one
    names: dict = {}
    exec(compile(example, "example", "exec"), names)
    assert names["patches"].shape == (2, 16, 32) and names["both"].shape == (2, 2, 32)


def test_the_table_has_the_models_with_their_widths(page):
    rows = re.findall(r"^\| `(TIPS-\S+)` \| .* \| ([\d,]+) \|", page, flags=re.M)
    found = {name: int(width.replace(",", "")) for name, width in rows}
    assert found == {name: row[0] for name, row in MODELS.items()}
