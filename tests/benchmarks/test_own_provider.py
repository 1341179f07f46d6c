"""A kernel of one's own takes part by where it is, without an edit of the package."""

import os
import sys

import pytest

from fastclip.benchmarks import memory
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.memory import KilledForMemory, MemoryNotMeasured
from fastclip.benchmarks.own import own_provider, source_of_own
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import find_provider
from fastclip.cli import main

BENCH = ["bench", "loss", "--n", "16", "--d", "8", "--rounds", "1", "--budget", "0"]
KERNELS = """
import torch
import torch.nn.functional as F
from beside import half

def loss(image_features, text_features, logit_scale):
    logits = logit_scale * image_features @ text_features.T
    labels = torch.arange(len(logits))
    return half * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels))

def one_direction(image_features, text_features, logit_scale):
    logits = logit_scale * image_features @ text_features.T
    return F.cross_entropy(logits, torch.arange(len(logits)))

class Loss(torch.nn.Module):
    def forward(self, *inputs):
        return loss(*inputs)

class Needs:
    def __init__(self, argument):
        pass

number = 3
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A file `kernels_<number>.py`, of a name that no other test has imported."""
    (tmp_path / "beside.py").write_text("half = 0.5\n")
    path = tmp_path / f"kernels_{abs(hash(tmp_path))}.py"
    path.write_text(KERNELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    yield path
    sys.modules.pop("beside", None)


@pytest.mark.parametrize("attribute", ["loss", "Loss"])
@pytest.mark.parametrize("kind", ["file", "module"])
def test_functions_and_modules_are_found_in_files_and_packages(kernels, attribute, kind, capsys):
    name = f"{kernels.name if kind == 'file' else kernels.stem}:{attribute}"
    assert main([*BENCH, "--no-memory", "--provider", name, "fastclip/reference"]) == 0
    printed = capsys.readouterr().out
    (line,) = (x for x in printed.splitlines() if x.startswith(f"| {name} | random-16x8"))
    errors = [float(cell) for cell in line.split("|")[3:-1]]
    assert len(errors) == 4 and max(errors) < 1e-6  # accuracy is asked of a kernel of one's own
    assert f"{name}: in no repository, sha256 " in printed


def test_what_computes_something_else_is_said_to(kernels, capsys):
    name = f"{kernels.name}:one_direction"
    assert main([*BENCH, "--no-memory", "--provider", name]) == 0
    _, _, section = capsys.readouterr().out.partition("## Further than 10% from float64")
    assert f"- {name} (random-16x8-float32-scale100): d " in section


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nowhere.py:loss", "cannot be imported: FileNotFoundError: there is no file"),
        ("nowhere_at_all:loss", "cannot be imported: ModuleNotFoundError"),
        ("{file}:nothing", "the module has no 'nothing'"),
        ("{file}:number", "cannot be called: it is of type int"),
        ("{file}:Needs", "the class cannot be called without arguments"),
        (":loss", "must be module:function or file.py:function"),
    ],
)
def test_what_is_not_there_is_refused_by_name(kernels, place, words, capsys):
    name = place.format(file=kernels.name)
    assert main([*BENCH, "--provider", name]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"fastclip bench: provider '{name}'") and words in told


def test_a_file_that_fails_is_refused_and_read_again_when_it_is_right(tmp_path):
    path = tmp_path / "failing.py"
    path.write_text("raise RuntimeError('half written')")
    with pytest.raises(ValueError, match="RuntimeError: half written"):
        own_provider("clip", f"{path}:loss")
    path.write_text("def loss(*inputs): return inputs[2]")
    assert find_provider("clip", f"{path}:loss").build()(1, 2, 3) == 3


def test_an_edited_file_is_read_again_even_within_a_second(tmp_path, monkeypatch):
    """Of the same length and second, Python's cached bytecode would be taken for the new one."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "edited.py"
    for number in (1, 2):
        path.write_text(f"def loss(*inputs): return {number}")
        os.utime(path, (10**9, 10**9))
        assert own_provider("clip", f"{path}:loss").build()() == number


def test_files_of_one_name_and_content_are_modules_of_their_own(tmp_path):
    names = set()
    for folder in ("one", "two"):
        path = tmp_path / folder / "same.py"
        path.parent.mkdir()
        path.write_text("def loss(*inputs): return __file__")
        loss = own_provider("clip", f"{path}:loss").build()
        assert loss() == str(path) and sys.modules[loss.__module__].loss is loss
        names.add(loss.__module__)
    assert len(names) == 2


def test_the_state_of_the_file_is_known(kernels):
    before = source_of_own(f"{kernels}:loss")
    kernels.write_text(KERNELS + "\n")
    assert before != source_of_own(f"{kernels}:loss")
    assert source_of_own("fastclip.benchmarks.cases:DATA")[:8].isalnum()


@pytest.mark.slow
def test_memory_is_measured_in_a_process_that_finds_the_function(kernels):
    extra = memory.extra_bytes(own_provider("clip", f"{kernels.stem}:loss"), Case(3072, 16))
    assert extra > 2 * 36 * 2**20


@pytest.mark.parametrize(
    ("error", "words", "is_timed"),
    [
        (MemoryNotMeasured("no such luck"), "memory: no such luck", True),
        (KilledForMemory("killed, most likely"), ": killed, most likely", False),
    ],
)
def test_a_provider_whose_memory_is_not_measured_keeps_its_times(
    kernels, error, words, is_timed, monkeypatch, capsys
):
    def fails(provider: Provider, case: Case) -> int:
        raise error

    monkeypatch.setattr("fastclip.benchmarks.measure.extra_bytes", fails)
    assert main([*BENCH, "--provider", f"{kernels.name}:loss"]) == 0
    printed = capsys.readouterr().out
    assert words in printed.partition("## Not measured")[2]
    main_table = printed.partition("## Relative")[0].partition("## Not")[0]
    assert (f"| {kernels.name}:loss |" in main_table) == is_timed
