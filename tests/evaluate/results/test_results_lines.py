"""Lines of results: what others read, appended whole or not at all."""

import contextlib
import errno
import fcntl
import json
import math
import multiprocessing
import os

import pytest
import torch

from fastclip.atomic_file import CannotWrite
from fastclip.evaluate.results import file as results_file
from fastclip.evaluate.results.datacomp import key_of, main_metric
from fastclip.evaluate.results.file import ResultsFile, read_results
from fastclip.evaluate.results.formats import FORMATS, cautions
from fastclip.evaluate.results.outcomes import from_json, image_of, to_json
from fastclip.evaluate.results.result import (
    CLASSIFICATION,
    FEW_SHOT,
    PROBE,
    RETRIEVAL,
    Result,
)
from fastclip.file_lock import locked

LINE = {"dataset": "d", "model": "m", "pretrained": "", "task": "t", "metrics": {"acc1": 0.5}}


@pytest.mark.parametrize("num", [1, 7, 8, 9, 64])
def test_outcomes_are_read_as_they_were_written(num):
    correct = torch.rand(num, generator=torch.Generator().manual_seed(num)) < 0.5
    assert torch.equal(from_json(json.loads(json.dumps(to_json(correct)))), correct)


@pytest.mark.parametrize(
    "values", [None, {}, {"n": 9, "bits": "ff"}, {"n": 1, "bits": "xx"}, {"n": True, "bits": "80"},
               {"n": 8, "bits": "ffff"}]
)  # fmt: skip
def test_outcomes_that_are_none_are_refused(values):
    with pytest.raises(ValueError, match="outcomes"):
        from_json(values)


def test_images_of_captions_are_read_as_they_were_written():
    correct, images = torch.tensor([True, False, True]), torch.tensor([0, 1, 0])
    written = json.loads(json.dumps(to_json(correct, images)))
    assert image_of(written) == [0, 1, 0] and image_of(to_json(correct)) is None
    for wrong in ("0", [0.5], [-1], [True]):
        with pytest.raises(ValueError, match="image_of must be a list of numbers of images"):
            image_of(written | {"image_of": wrong})


def test_lines_are_appended_and_those_alike_are_counted(tmp_path):
    file = ResultsFile(tmp_path / "r.jsonl")
    assert file.lines_like(LINE) == 0 and not file.path.exists()
    file.append([LINE, LINE | {"model": "other"}])
    (tmp_path / "r.jsonl").write_bytes((tmp_path / "r.jsonl").read_bytes()[:-1])  # by an editor
    file.append([LINE])
    assert read_results(file.path) == [LINE, LINE | {"model": "other"}, LINE]
    assert file.lines_like(LINE) == 2


def test_a_number_that_is_none_leaves_the_file_as_it_was(tmp_path):
    file = ResultsFile(tmp_path / "r.jsonl")
    file.append([LINE])
    with pytest.raises(ValueError):
        file.append([LINE, LINE | {"metrics": {"acc1": math.nan}}])
    assert read_results(file.path) == [LINE]


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02}", b"[1]\n", b'{"a": 1}\n', b'{"metrics": 1}\n{"me', b'{"metrics": NaN}\n',
     b'{"metrics": {"acc1": -Infinity}}\n'],
)  # fmt: skip
def test_other_files_are_refused_before_anything_is_computed(content, tmp_path):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is not a file of results: line"):
        ResultsFile(tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == content


def test_places_that_cannot_be_written_to_are_refused_at_once(tmp_path):
    with pytest.raises(CannotWrite, match="No such file"):
        ResultsFile(tmp_path / "no" / "r.jsonl")
    with pytest.raises(OSError):
        ResultsFile(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        ResultsFile(tmp_path / "pipe")


def append_many(path, name):
    file = ResultsFile(path)
    for number in range(10):
        file.append([LINE | {"model": name, "number": number}])


def test_of_two_processes_none_loses_a_line(tmp_path):
    context = multiprocessing.get_context("fork")
    path = tmp_path / "r.jsonl"
    both = [context.Process(target=append_many, args=(path, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
        assert process.exitcode == 0
    found = read_results(path)
    for name in "ab":
        assert [line["number"] for line in found if line["model"] == name] == list(range(10))


def test_it_is_said_once_where_there_are_no_locks(tmp_path, monkeypatch):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    said = []
    file = ResultsFile(tmp_path / "r.jsonl", said.append)
    file.append([LINE])
    file.append([LINE])
    assert read_results(file.path) == [LINE, LINE]
    assert said == [
        f"{file.path} cannot be locked ({os.strerror(errno.ENOLCK)}); do not append to it from two "
        "evaluations at the same time, or one may lose its line"
    ]


def test_a_lock_that_is_not_let_go_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, "SECONDS", 0.0)
    file = ResultsFile(tmp_path / "r.jsonl")
    file.append([LINE])
    with (
        held_elsewhere(tmp_path / ".r.jsonl.lock"),
        pytest.raises(CannotWrite, match="another process has held"),
    ):
        file.append([LINE])
    assert read_results(file.path) == [LINE]


@contextlib.contextmanager
def held_elsewhere(path):
    def hold(connection):
        with locked(path):
            connection.send("held")
            connection.recv()

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(theirs,))
    process.start()
    assert ours.recv() == "held"
    yield
    ours.send("let go")
    process.join(30)


RETRIEVED = Result("coco", "m", "p", RETRIEVAL, {
    "text_retrieval_recall@1": 0.5, "image_to_text_R@1": 0.5, "image_retrieval_recall@1": 0.25,
    "image_to_text_mean_rank": 3.0,
})  # fmt: skip


def test_lines_for_clip_benchmark_have_its_keys_alone():
    (line,) = FORMATS["clip-benchmark"](RETRIEVED)
    assert line == {
        "dataset": "coco", "model": "m", "pretrained": "p", "task": "zeroshot_retrieval",
        "language": "en",
        "metrics": {"text_retrieval_recall@1": 0.5, "image_retrieval_recall@1": 0.25},
    }  # fmt: skip
    probes = [
        {"metrics": {"lp_acc1": v}, "fewshot_k": k, "seed": 0, "c": 1}
        for k, v in ((1, 0.2), (4, 0.4))
    ]
    few = Result("d", "m", "", FEW_SHOT, {}, {"probes": probes})
    lines = FORMATS["clip-benchmark"](few)
    assert [line["metrics"]["fewshot_k"] for line in lines] == [1, 4]
    assert {line["task"] for line in lines} == {PROBE} and "c" not in lines[0]["metrics"]


def test_lines_for_datacomp_have_its_names_and_main_metrics():
    (line,) = FORMATS["datacomp"](RETRIEVED)
    assert line["key"] == "coco" and line["metrics"]["main_metric"] == 0.375
    metrics = {"acc1": 0.5, "acc5": None, "mean_per_class_recall": 0.4}
    for dataset, key, value in (
        ("wds_vtab-pets_test", "vtab/pets", 0.4), ("wds_imagenet-a_test", "imagenet-a", 0.5),
        ("wds_fgvc_aircraft_test", "fgvc_aircraft", 0.4), ("cifar10", "cifar10", 0.5),
        ("wds_wilds-fmow_test", "wilds/fmow", None),
    ):  # fmt: skip
        assert key_of(dataset) == key and main_metric(key, metrics) == value
    result = Result("wds_wilds-fmow_test", "m", "", CLASSIFICATION, metrics)
    assert "acc_worst_region, which fastclip does not" in cautions(result, "datacomp")[0]
    assert cautions(result, "fastclip") == []
    with pytest.raises(ValueError, match="no task 'linear_probe'"):
        FORMATS["datacomp"](Result("d", "m", "", PROBE, {}))
