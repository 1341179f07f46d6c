"""docs/locca.md: its example runs, and what it says of tokens and sequences is so."""

import re
from pathlib import Path

import pytest
import torch

import fastclip

PAGE = Path(__file__).parents[3] / "docs" / "locca.md"


@pytest.fixture(scope="module")
def page() -> str:
    if not PAGE.exists():
        pytest.skip("docs/ is not beside the tests")
    return PAGE.read_text()


def test_the_example_runs(page, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope = {}
    exec(code, scope)
    result, v = scope["result"], scope["vocabulary"]
    torch.testing.assert_close(sum(result.terms.values()), result.loss)
    assert all(p.grad is not None for p in scope["head"].parameters())
    assert scope["boxes"].shape == scope["where"].shape == (2, 4)
    assert ((scope["what"] == v.end_id).sum(1) == 1).all()
    assert "contrastive_loss" in capsys.readouterr().out


def test_the_tables_are_the_codes(page):
    v = fastclip.LocCaVocabulary(100, end_id=99)
    assert "`num_words` + 1 | `MASK`" in page and v.mask == 101
    assert "+ 2, + 3, + 4 | `CAP`, `AREF`, `GCAP`" in page
    assert (v.cap, v.aref, v.gcap) == (102, 103, 104)
    assert "`num_words` + 5 + b" in page and v.first_bin == 105
    assert "With 500 bins, the default" in page and v.bins == 500
    for method in re.findall(r"`model\.(\w+)\(", page):
        assert hasattr(fastclip.LocCa, method)
    (example,) = set(re.findall(r"`(examples/\w+\.py)`", page))
    assert (PAGE.parents[1] / example).is_file()
