"""What pages say that the package computes is computed again."""

import re
from pathlib import Path

import pytest

from fastclip.benchmarks.pages import over_ranks, rounding, tables

DOCS = Path(__file__).parents[2] / "docs"


def test_accumulated_gradients_are_wrong_by_what_the_page_says():
    page = tables.read_table(DOCS / "huge-batches.md", "accumulation")
    assert page == tables.accumulation_table()  # float64: the same digits on every CPU


def test_errors_of_16_and_32_bits_are_those_of_the_page():
    page = tables.read_table(DOCS / "numerics.md", "rounding").splitlines()
    found = tables.rounding_table().splitlines()
    assert len(page) == len(found) == 2 + 9
    for told, computed in zip(page, found, strict=True):
        shown, again = ([float(x) for x in re.findall(r"\de[+-]\d+", y)] for y in (told, computed))
        # CPUs round differently.
        assert all(a <= 3 * b and b <= 3 * a for a, b in zip(shown, again, strict=True)), told


def test_the_curves_of_the_figure_are_what_the_essay_says():
    assert rounding.losses_of_a_margin(17.0)[2] == 0 < rounding.losses_of_a_margin(16.0)[2]
    truth, ours, _ = rounding.losses_of_a_margin(80.0)
    assert ours == pytest.approx(truth, rel=1e-6)
    assert rounding.subnormal_fraction(100.0) > 0.5 > rounding.subnormal_fraction(60.0)
    of_bfloat16 = [
        rounding.error_of_rounded_probability(p, tables.DTYPES[1]) for p in (0.99, 0.999)
    ]
    assert of_bfloat16 == [pytest.approx(0.17, abs=0.005), pytest.approx(1.0)]


def test_a_table_is_written_in_its_place_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: x -->\nold\n<!-- end -->\nb\n<!-- table: y -->\n<!-- end -->\n")
    tables.write_table(page, "x", "| new |\n")
    assert tables.read_table(page, "x") == "| new |\n" and tables.read_table(page, "y") == ""
    assert page.read_text().startswith("a\n<!-- table: x -->\n| new |\n<!-- end -->\nb\n")
    with pytest.raises(KeyError):
        tables.write_table(page, "z", "")


def test_compared_gradients_have_a_ratio_and_a_direction():
    truth = over_ranks.gradient_of_rank(None, "fastclip", {})
    quarter = tuple(gradient / 4 for gradient in truth)
    assert over_ranks.compare(quarter, truth) == pytest.approx((0.25, 0.0, 0.25), abs=1e-12)
    other = (truth[0].flip(1), truth[1])
    assert over_ranks.compare(other, truth).error > 0.1
