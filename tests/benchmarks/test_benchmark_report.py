"""Results survive the disk, and the report shows what they hold."""

import csv
import dataclasses
import json
from itertools import pairwise

import pytest
import torch

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.csv_file import csv_text
from fastclip.benchmarks.figures.labels import LABEL_SPACING, spread_apart
from fastclip.benchmarks.figures.plots import save_plots
from fastclip.benchmarks.report import markdown
from fastclip.benchmarks.results import FAMILY, Results, Row, load_results
from fastclip.benchmarks.timing import Timing
from fastclip.cli import main

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


def test_files_of_the_first_form_are_read(results, tmp_path):
    """As releases before 0.1.0 wrote them: no version, no samples, a case without a device."""
    path = tmp_path / "loss.json"
    results.save(path)
    content = json.loads(path.read_text())
    for name in ("schema_version", "commit", "complete", "sources", "ceilings"):
        del content[name]
    for row in content["rows"]:
        for name in ("what", "memory_reason", "moved_bytes"):
            del row[name]
        del row["case"]["device"]
        for name in ("samples", "matmul_samples"):
            (row["timing"] or {}).pop(name, None)
    path.write_text(json.dumps(content))
    assert load_results(path) == results


def test_csv_has_a_line_per_row_with_units_in_its_names(results):
    results.rows[0].what = "forward"
    lines = list(csv.DictReader(csv_text(results).splitlines()))
    assert len(lines) == len(results.rows)
    first = lines[0]
    assert (first["provider"], first["what"], first["N"], first["dtype"]) == (
        "open_clip", "forward", "1024", "float32"
    )  # fmt: skip
    assert float(first["seconds"]) == 0.038 and int(first["extra_bytes"]) == 47 * 2**20
    assert float(first["flops_per_second"]) == pytest.approx(2 * 1024**2 * 512 / 0.038)
    assert float(first["error_image_features"]) == 2.5e-3 and "error_loss_absolute" not in first
    assert lines[1]["seconds"] == "" and lines[1]["reason"] == "RuntimeError: no luck"


def test_csv_of_a_family_has_no_floor_of_another_loss(results):
    results.objective = FAMILY
    first = next(csv.DictReader(csv_text(results).splitlines()))
    assert first["seconds"] and not first["times_floor"] and not first["flops_per_second"]


@pytest.mark.parametrize("destination", ["-", "table.csv"])
def test_a_report_writes_its_csv(results, destination, tmp_path, capsys):
    path, table = tmp_path / "loss.json", tmp_path / destination
    results.save(path)
    arguments = ["bench", "report", str(path), "--csv"]
    assert main([*arguments, destination if destination == "-" else str(table)]) == 0
    told = capsys.readouterr()
    if destination == "-":
        assert told.out == csv_text(results)
    else:
        assert table.read_text() == csv_text(results) and told.out == markdown(results)
        assert told.err == f"{table}\n"


def test_markdown_says_with_which_code_and_whether_it_ran_to_its_end(results):
    results.commit, results.complete = "c" * 40, False
    results.sources = {"kernel.py:loss": "d" * 40}
    text = markdown(results)
    assert f"commit {'c' * 40}." in text and f"kernel.py:loss: {'d' * 40}." in text
    assert "This run was stopped before its end." in text


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
    _, _, section = text.partition("## Time over the same provider's time for float32, random")
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
