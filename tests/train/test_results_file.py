import json

from fastclip.train.results_file import ResultsFile


def test_lines_are_appended_and_found_by_their_epoch(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    assert not results.has_epoch(1)
    results.append({"epoch": 1, "R@1": 0.5})
    results.append({"epoch": 12})
    lines = [json.loads(line) for line in results.path.read_text().splitlines()]
    assert lines == [{"epoch": 1, "R@1": 0.5}, {"epoch": 12}]
    assert results.has_epoch(1) and results.has_epoch(12) and not results.has_epoch(2)


def test_half_a_line_of_a_killed_process_is_removed(tmp_path):
    path = tmp_path / "results.jsonl"
    whole = '{"epoch": 1}\n{"epoch": 2}\n'
    for length in range(len(whole) + 1):
        path.write_text(whole[:length])
        results = ResultsFile(path)
        kept = path.read_text()
        assert kept == whole[: whole[:length].rfind("\n") + 1]
        assert [results.has_epoch(epoch) for epoch in (1, 2)] == [
            f'{{"epoch": {epoch}}}' in kept for epoch in (1, 2)
        ]
        results.append({"epoch": 3})
        assert results.has_epoch(3)
