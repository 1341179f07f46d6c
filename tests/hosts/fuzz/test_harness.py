"""The harness finds every kind of failure, says which input it was, and goes on behind it."""

from pathlib import Path

from tests.hosts.fuzz import harness
from tests.hosts.fuzz.planted import WAYS


def test_every_way_to_fail_is_found_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "KEPT", tmp_path / "kept")
    (tmp_path / "inputs").mkdir()
    found = harness.failures(
        "tests.hosts.fuzz.planted", tmp_path / "inputs", seconds=60, limit=3, most=6
    )
    assert len(found) == 6
    said = ("signal 11", "more than 3 s", "memory rose by 600 MiB", "MemoryError", "KeyError")
    for text, report, way in zip((*said, "5000 characters"), found, WAYS[2:], strict=True):
        assert text in report
        assert Path(report.split("kept as ")[1].split(":")[0]).read_bytes() == way
        assert f"input {WAYS.index(way):08d}" in report
