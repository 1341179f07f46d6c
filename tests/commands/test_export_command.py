"""`fastclip export`; what needs onnxruntime runs in test-hosts."""

import sys

import pytest

from fastclip.cli import main
from fastclip.commands import export
from fastclip.data.tokenizers.tokenizer_check import TokenizerCheck
from fastclip.models.onnx_export import export as library
from tests.support.ready import digits_checkpoint, tiny_directory


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return digits_checkpoint(tmp_path_factory.mktemp("models") / "digits.pt")


@pytest.fixture
def nothing_else(tmp_path, monkeypatch):
    """A folder in which a test starts; the packages are there as far as `import` can tell."""
    monkeypatch.setitem(sys.modules, "onnx", sys)
    return tmp_path


def run(*arguments) -> int:
    return main(["export", *map(str, arguments)])


def refused(capsys, *arguments) -> str:
    assert run(*arguments) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("fastclip export: ")
    return told.err


def test_help_is_made_of_sentences(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    told = " ".join(capsys.readouterr().out.split())
    for sentence in ("it must not exist yet.", "The default is immich.", "docs/onnx.md describes"):
        assert sentence in told


def test_missing_package_is_said_before_weights_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    told = refused(capsys, tmp_path / "no-model", "--onnx", tmp_path / "out")
    assert 'the export needs onnx: pip install "onnx>=1.17"' in told
    monkeypatch.setitem(sys.modules, "onnx", sys)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    told = refused(capsys, tmp_path / "no-model", "--onnx", tmp_path / "out", "--int8")
    assert "8-bit weights need onnxruntime" in told


def test_folder_that_exists_is_said_before_weights_are_read(nothing_else, capsys):
    told = refused(capsys, nothing_else / "no-model", "--onnx", nothing_else)
    assert "exists: choose another path" in told


def test_models_that_are_not_there_or_do_not_fit_are_refused(nothing_else, digits, capsys):
    out = nothing_else / "out"
    assert "no-model" in refused(capsys, nothing_else / "no-model.pt", "--onnx", out)
    told = refused(capsys, digits, "--onnx", out, "--layout", "rclip")
    assert "rclip cannot use" in told and "its images are not RGB images from files" in told
    assert not list(nothing_else.iterdir())


@pytest.mark.parametrize("option", [["--opset", "9"], ["--layout", "flat"], ["--device", "cpu"]])
def test_other_values_and_options_are_refused(nothing_else, digits, option, capsys):
    with pytest.raises(SystemExit) as stop:
        run(digits, "--onnx", nothing_else / "out", *option)
    assert stop.value.code == 2 and option[0] in capsys.readouterr().err


def test_tokenizer_is_told_with_what_it_cannot_do():
    tell = export._of_tokenizer
    assert tell(TokenizerCheck(25, 25, [], [])).endswith("25 of 25 texts have fastclip's ids")
    told = tell(TokenizerCheck(25, 23, ["&amp;", "\ufb01ne"], []))
    assert told.startswith("tokenizer.json: 23 of 25") and "2 need a repair" in told
    assert "&amp;, \ufb01ne" in told
    assert "was not checked, because tokenizers is not installed (pip install" in tell(None)


def test_digits_are_exported_and_what_was_checked_is_said(digits, tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert run(digits, "--onnx", tmp_path / "out") == 0
    told = capsys.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    assert lines[0] == f"wrote {tmp_path / 'out'}"
    assert "visual/model.onnx" in lines[1] and "(batch, 1, 16, 24) to (batch, 128)" in lines[1]
    assert "textual/model.onnx" in lines[2] and lines[2].endswith("of length 1")
    assert lines[3].startswith("onnxruntime and torch at batches of 1, 2, 7: largest difference")
    assert lines[4] == "tokenizer.json: 25 of 25 texts have fastclip's ids"
    assert lines[5] == "immich does not read this model: its images are not RGB images from files"


def test_cosines_of_8_bit_weights_are_printed(tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = tiny_directory(tmp_path / "model")
    assert run(model, "--onnx", tmp_path / "out", "--int8", "--no-normalize") == 0
    told = capsys.readouterr().out
    assert told.count("8-bit weights: cosine to float32 0.99") == 2
    assert "over 7 images of noise" in told and "over 24 texts" in told
    assert "float32 in onnxruntime and torch" in told and told.count("of any length") == 2
    assert "19 of 25 texts have fastclip's ids; 6 need a repair" in told


def test_unchecked_result_is_said_to_be_so(digits, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert run(digits, "--onnx", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "the result was not checked, because onnxruntime is not installed" in told
    assert "tokenizer.json was not checked" in told


def test_features_that_differ_are_a_failure_without_files(digits, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(library, "TOLERANCE", 1e-12)
    assert "differ from torch's by" in refused(capsys, digits, "--onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())
