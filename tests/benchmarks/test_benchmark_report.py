"""Results survive the disk, and the report shows what they hold."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.figures.labels import LABEL_SPACING, spread_apart
from fastclip.benchmarks.figures.plots import save_plots
from fastclip.benchmarks.report import markdown
from fastclip.benchmarks.results import Results, Row, load_results
from fastclip.benchmarks.timing import Timing

STEADY = Timing(
    seconds=0.038, seconds_low=0.0375, seconds_high=0.0385, rounds=5,
    matmul_flops_per_second=280e9, times_floor=2.21,
)  # fmt: skip
NOISY = dataclasses.replace(STEADY, seconds_high=0.05, times_floor=1.118)


@pytest.fixture
def results():
    first, second = Case(N=1024), Case(N=4096)
    trained = dataclasses.replace(first, data="trained", dtype=torch.bfloat16)
    errors = {"loss": 1.5e-7, "image_features": 2.5e-3, "logit_scale": 3e-9, "loss_absolute": 1.0}
    rows = [
        Row(first, "open_clip", timing=STEADY, extra_bytes=47 * 2**20, errors=errors),
        Row(second, "open_clip", reason="RuntimeError: no luck", extra_bytes=2**20),
        Row(first, "transformers", reason="transformers is not installed"),
        Row(second, "transformers", reason="transformers is not installed"),
        Row(trained, "open_clip", timing=NOISY),
    ]
    return Results("clip", "2026-01-31T12:00:00", "fastclip bench loss", {"cpu": "Abacus"}, rows)


def test_results_round_trip_through_json(results, tmp_path):
    path = tmp_path / "device" / "loss.json"
    results.save(path)
    assert load_results(path) == results
    assert [found.name for found in path.parent.iterdir()] == ["loss.json"]


def test_markdown_has_a_cell_per_measurement(results):
    text = markdown(results)
    assert "| open_clip | 2.21x, 38 ms, 47 MiB | 1 MiB |" in text
    assert "| transformers |" not in text
    assert "| float32 matmul | 280 GFLOP/s | – |" in text
    assert "cpu Abacus" in text and "`fastclip bench loss`" in text


def test_markdown_has_a_table_per_condition_and_marks_noise(results):
    text = markdown(results)
    assert "## float32, random embeddings, D = 512, logit_scale 100" in text
    assert "## bfloat16, trained embeddings, D = 512, logit_scale 100" in text
    assert "| open_clip | ~1.12x, 38 ms |" in text


def test_markdown_compares_conditions_with_the_first(results):
    text = markdown(results)
    _, _, section = text.partition("## Time over the same provider's for float32, random")
    assert "bfloat16, trained embeddings, D = 512, logit_scale 100:\n" in section
    assert "| open_clip | 0.51 |" in section


def test_markdown_lists_who_was_not_measured_and_why(results):
    _, _, section = markdown(results).partition("## Not measured")
    assert "- open_clip (random-4096x512-float32-scale100): RuntimeError: no luck" in section
    assert section.count("transformers is not installed") == 1


def test_markdown_shows_errors(results):
    _, _, section = markdown(results).partition("## Relative error against float64")
    assert "| loss | d image_features | d logit_scale |" in section
    assert "| 1.5e-07 | 2.5e-03 | 3.0e-09 |" in section


def test_save_plots_writes_an_image_per_condition_and_quantity(results, tmp_path):
    written = save_plots(results, tmp_path / "run")
    assert [path.name for path in written] == [
        "run-random-float32-d512-scale100-time.png",
        "run-random-float32-d512-scale100-memory.png",
        "run-trained-bfloat16-d512-scale100-time.png",
    ]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_spread_apart_keeps_order_distance_and_bounds():
    heights = {"a": 0.1, "b": 0.5, "c": 0.51, "d": 0.505, "e": 0.99, "f": 1.0}
    spread = spread_apart(heights)
    order = sorted(heights, key=heights.get)
    assert sorted(spread, key=spread.get) == order
    gaps = [spread[upper] - spread[lower] for lower, upper in pairwise(order)]
    assert min(gaps) > LABEL_SPACING - 1e-9
    assert spread["a"] == pytest.approx(0.1) and spread["d"] == pytest.approx(0.505)
    assert max(spread.values()) <= 1.0
