"""Figures show what results hold: quartiles, roofs, where it was measured, apart without colour."""

from itertools import combinations

import pytest

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.figures import plots, style
from fastclip.benchmarks.figures.roofline import points_of, roofs_of
from fastclip.benchmarks.report import by_condition
from fastclip.benchmarks.results import Results, Row
from fastclip.benchmarks.timing import floor_flops, summarize

OWN = "kernel.py:loss"
NAMES = (
    "fastclip/cpu", "fastclip/cpu+workspace", "fastclip/chunked", "fastclip/reference", "open_clip",
    "transformers", "open_clip+compile", "checkpoint/one-pass", "linear_cross_entropy", OWN,
)  # fmt: skip
HOST = {"cpu": "Abacus", "threads": 1, "torch": "2.13", "fastclip": "0.1.0", "load": 0.1}


def row(provider, N, seconds, what="step", moved_bytes=10**6):
    case = Case(N, 32)
    timing = summarize(seconds, [1e9] * len(seconds), floor_flops(N, 32))
    return Row(case, provider, timing=timing, what=what, moved_bytes=moved_bytes)


@pytest.fixture
def results():
    rows = [
        row(name, N, [N * s for s in (1e-4, 2e-4, 4e-4)])
        for name in ("open_clip", OWN)
        for N in (64, 256)
    ]
    rows.append(row(OWN, 64, [1e-3], what="backward", moved_bytes=None))
    ceilings = {"matmul": {"rate": 2e9}, "copy": {"rate": 1e8}, "dtype": "float32"}
    return Results(
        "clip", "2026-01-31T12:00:00", "bench", HOST, rows, "c" * 40 + "+changes",
        sources={OWN: "a state"}, ceilings=ceilings,
    )  # fmt: skip


@pytest.fixture
def drawn(monkeypatch):
    """The axes of every figure by the end of its file's name, and its texts below."""
    kept, real = {}, style.figure_of

    def keeping(results, title, note, path):
        class Keeps:
            def __enter__(self):
                self.context = real(results, title, note, path)
                self.figure, self.axes = self.context.__enter__()
                return self.figure, self.axes

            def __exit__(self, *error):
                done = self.context.__exit__(*error)
                texts = [text.get_text() for text in self.figure.texts]
                kept[path.name.rpartition("-")[2]] = (self.axes, texts)
                return done

        return Keeps()

    for module in ("plots", "roofline"):
        monkeypatch.setattr(f"fastclip.benchmarks.figures.{module}.figure_of", keeping)
    return kept


def bars_of(axes, name):
    """(low, high) of each vertical bar of a line, by the order of points."""
    for container in axes.containers:
        if container.lines[0].get_color() == style.styles_of([name], {OWN})[name]["color"]:
            (bars,) = container.lines[2]
            return [(float(low), float(high)) for (_, low), (_, high) in bars.get_segments()]
    raise AssertionError(f"no line of {name}")


def test_there_is_a_figure_of_each_kind_in_each_format(results, tmp_path):
    written = plots.save_plots(results, tmp_path / "run", ("png", "svg"))
    stem = "run-random-float32-d32-scale100"
    kinds = ("time", "backward", "roofline")
    assert [path.name for path in written] == [
        f"{stem}-{kind}.{suffix}" for suffix in ("png", "svg") for kind in kinds
    ]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    svg = written[3].read_text()
    place = "Abacus, 1 thread · torch 2.13 · fastclip 0.1.0 (ccccccccc+changes)"
    assert place in svg and "2026-01-31" in svg  # letters, which can be searched


def test_bars_are_quartiles_of_the_time(results, tmp_path, drawn):
    plots.save_plots(results, tmp_path / "run")
    axes, texts = drawn["time.png"]
    (first, second) = bars_of(axes, OWN)
    assert first == pytest.approx((64 * 0.15, 64 * 0.3)) and second[1] == pytest.approx(256 * 0.3)
    assert "quartiles" in texts[0] and "Abacus" in texts[0]
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert len(ticks) >= 3 and "20" in ticks  # not the decades alone


def test_the_roofline_has_rates_over_intensities_below_measured_roofs(results, tmp_path, drawn):
    points = points_of(results.rows)[OWN]
    flops = 8 * 64**2 * 32
    assert points[0].intensity == pytest.approx(flops / 10**6)
    assert points[0].rate == pytest.approx(flops / (64 * 2e-4))
    assert points[0].low == pytest.approx(flops / (64 * 3e-4))
    assert points[0].high == pytest.approx(flops / (64 * 1.5e-4))
    roofs = roofs_of(results, results.rows)
    assert roofs == (2e9, 1e8) and roofs.ridge == 20

    plots.save_plots(results, tmp_path / "run")
    axes, _ = drawn["roofline.png"]
    (roof,) = (line for line in axes.lines if len(line.get_xdata()) == 3)
    (low, ridge, _), (start, top, end) = roof.get_data()
    assert (ridge, top, end) == (20, 2.0, 2.0) and start == pytest.approx(0.1 * low)  # GFLOP/s
    bars = bars_of(axes, OWN)[0]
    assert bars == pytest.approx((points[0].low / 1e9, points[0].high / 1e9))
    words = [text.get_text() for text in axes.texts]
    assert "float32 matmul, 2 GFLOP/s" in words and "copy, 0 GB/s" in words


def test_a_faster_matmul_of_the_run_raises_the_roof(results):
    results.ceilings["matmul"]["rate"] = 1e8
    assert roofs_of(results, results.rows).flops_per_second == 1e9


def test_results_without_ceilings_have_no_roofline(results, tmp_path):
    results.ceilings = {}
    names = [path.name for path in plots.save_plots(results, tmp_path / "run")]
    assert not any("roofline" in name for name in names) and len(names) == 2


def test_lines_are_apart_without_colour_and_for_any_eye():
    styles = style.styles_of(NAMES, {OWN})
    assert len({(s["marker"], s.get("linestyle")) for s in styles.values()}) == len(NAMES)
    assert styles[OWN]["color"] == "#000000"
    ours = [s["color"] for name, s in styles.items() if name.startswith("fastclip/")]
    assert len(set(ours)) == 4
    for first, second in combinations(ours, 2):
        assert distance(first, second) > 0.25


def distance(first, second):
    """Of two colours as a reader without the pigment for green sees them (Viénot and others)."""
    return sum((a - b) ** 2 for a, b in zip(seen(first), seen(second), strict=True)) ** 0.5


def seen(color):
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    yellow = 0.29275 * red + 0.70725 * green
    return yellow, -0.02234 * red + 0.02234 * green + blue


def test_the_style_of_a_provider_is_the_same_in_all_figures(results):
    (rows,) = by_condition(results).values()
    all_names = [row.provider for row in rows]
    assert style.styles_of(all_names, {OWN}) == style.styles_of(all_names[::-1], {OWN})
