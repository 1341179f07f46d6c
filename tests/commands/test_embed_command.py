"""`fastclip embed`: what it prints, what it writes, and what it refuses with status 2."""

import io
import os
import re
import signal
import sys

import pytest

from fastclip.cli import CLOSED_PIPE, main
from fastclip.commands import embed as embed_command
from fastclip.commands import model_arguments
from fastclip.embeddings import open_embeddings
from tests.support.images import encoded, random_image
from tests.support.pair_files import image_bytes, tar_bytes
from tests.support.ready import digits_checkpoint, tiny_directory


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(digits_checkpoint(tmp_path_factory.mktemp("model") / "digits.pt"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(20):
        (folder / f"{i:02d}.png").write_bytes(image_bytes(i))
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "more.npy").write_bytes(b"")
    return folder


def embed(*args):
    return main(["embed", *map(str, args), "--device", "cpu"])


def test_folder_is_embedded_and_the_end_says_what_was_done(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert embed(checkpoint, photos, out, "--store", "f16", "--metadata", "jsonl") == 0
    told = capsys.readouterr().out
    assert f"wrote {out}: 20 rows; 1 of 21 samples are bad: 1 unusable image" in told
    assert "1 file belongs to no sample: 1 .npy" in told
    assert f"skipped inputs are listed in {out}/skipped.jsonl" in told
    assert "decoding 21 images took" in told and "the model took" in told
    found = open_embeddings(out, verify=True)
    assert len(found.images) == 20 and found.images.dtype == "float16" and found.texts is None
    assert embed(checkpoint, photos, out, "--store", "f16", "--metadata", "jsonl") == 2
    assert "has embeddings already: go on with them with --resume" in capsys.readouterr().err
    assert embed(
        checkpoint, photos, out, "--store", "f16", "--metadata", "jsonl", "--resume"
    ) == 0  # fmt: skip
    assert "nothing was left to embed" in capsys.readouterr().out


def test_bar_shows_both_rates_where_somebody_looks(
    checkpoint, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(embed_command, "is_watched", lambda: True)
    assert embed(checkpoint, photos, tmp_path / "out", "--batch-size", "8") == 0
    assert re.search(r"embedding: .*\| 21/21 .*decoding [\d,]+/s, model", capsys.readouterr().err)


def test_lines_and_shards(checkpoint, photos, tmp_path, monkeypatch, capsys):
    class Stdin:
        buffer = io.BytesIO(b"zero one\ntwo three\n")

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert embed(checkpoint, "-", tmp_path / "words") == 0
    assert len(open_embeddings(tmp_path / "words").texts) == 2
    for shard in ("1/2", "0/2"):
        assert embed(checkpoint, photos, tmp_path / "parts", "--shard", shard) == 0
    assert len(open_embeddings(tmp_path / "parts").images) == 20
    capsys.readouterr()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--strict"], "bad.png cannot be embedded: unusable image"),
        (["--max-bad-rate", "0.01"], "4.8% of the inputs cannot be embedded"),
        (["--max-bad-rate", "2"], "max_bad_rate must be in"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
        (["--workers", "0"], "workers must be at least 1"),
        (["--separator", ","], "separator must be None except for .csv and .tsv files"),
        (["--texts"], "100.0% of the inputs cannot be embedded"),
        (["--image-key", "jpg"], "holds no image"),
    ],
)
def test_refusals_are_one_message_and_status_2(checkpoint, photos, tmp_path, capsys, args, told):
    assert embed(checkpoint, photos, tmp_path / "out", *args) == 2
    assert f"fastclip embed: {told}" in capsys.readouterr().err.replace("root ", "")


@pytest.mark.parametrize("shard", ["2/2", "x", "1", "-1/2"])
def test_shard_that_there_is_not_is_refused(checkpoint, photos, tmp_path, shard, capsys):
    with pytest.raises(SystemExit) as exit:
        embed(checkpoint, photos, tmp_path / "out", f"--shard={shard}")
    assert exit.value.code == 2
    assert "must be I/N with I from 0 to N - 1" in capsys.readouterr().err


def test_without_pyarrow_the_error_names_the_way_out(
    checkpoint, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert embed(checkpoint, photos, tmp_path / "out") == 2
    assert 'pip install "pyarrow>=15", or choose jsonl' in capsys.readouterr().err
    assert embed(checkpoint, photos, tmp_path / "out", "--metadata", "jsonl") == 0
    assert len(open_embeddings(tmp_path / "out")) == 20
    capsys.readouterr()


def test_fast_decoding_is_recorded_and_refused_where_there_is_none(
    checkpoint, photos, tmp_path, capsys
):
    assert embed(checkpoint, photos, tmp_path / "no", "--decode", "fast") == 2
    assert "decode must be 'exact' for the images of" in capsys.readouterr().err
    folder = tmp_path / "in"
    folder.mkdir()
    noise = random_image("RGB", 60, 40).resize((640, 480))
    (folder / "large.jpg").write_bytes(encoded(noise, "JPEG"))
    model = tiny_directory(tmp_path / "model")
    for decode in ("exact", "fast"):
        assert embed(model, folder, tmp_path / decode, "--decode", decode) == 0
    exact, fast = (open_embeddings(tmp_path / decode) for decode in ("exact", "fast"))
    assert fast.manifest.settings["decode"] == "fast"
    cosine = float(exact.images.rows([0])[0] @ fast.images.rows([0])[0])
    assert 0.95 < cosine < 0.9999999
    capsys.readouterr()


def test_help_has_an_example_and_full_sentences(capsys):
    with pytest.raises(SystemExit):
        main(["embed", "--help"])
    told = capsys.readouterr().out
    assert "fastclip embed logs/my-run photos embeddings --store f16" in told


def test_values_of_metadata_that_are_elsewhere_or_left_out_are_said(checkpoint, tmp_path, capsys):
    columns = b'{"a": 1e999, "b": [Infinity], "' + b"c" * 300 + b'": 1}'
    members = [("0.png", image_bytes(0)), ("0.json", columns)]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    assert embed(checkpoint, tmp_path / "a.tar", tmp_path / "out", "--metadata", "jsonl") == 0
    told = capsys.readouterr().out
    assert "2 values of metadata are left out: numbers that are not" in told
    assert "1 values of metadata are in the column other_columns, as JSON" in told


def test_reader_that_goes_away_is_no_refusal(checkpoint, photos, tmp_path, monkeypatch, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert embed(checkpoint, photos, tmp_path / "out") == CLOSED_PIPE
    assert "fastclip embed" not in capfd.readouterr().err
    assert len(open_embeddings(tmp_path / "out")) == 20


def test_ctrl_c_says_what_is_complete_and_how_to_go_on(
    checkpoint, photos, tmp_path, monkeypatch, capsys
):
    calls = []

    def interrupted(state):
        calls.append(state)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr(embed_command, "_rates", interrupted)
    args = (checkpoint, photos, tmp_path / "out", "--batch-size", "8", "--rows-per-file", "8")
    assert embed(*args) == 130
    told = f"fastclip embed: stopped; {tmp_path}/out has 16 complete rows; the same command "
    assert capsys.readouterr().err.splitlines()[-1] == told + "with --resume continues the job"
    assert embed(*args, "--resume") == 0
    assert "20 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "only"),
    [
        (["-"], "text"), (["in"], None), (["in", "--texts"], "text"), (["in", "--images"], "image"),
        (["in", "--images", "--texts"], None), (["-", "--texts"], "text"),
    ],
)  # fmt: skip
def test_tower_that_is_not_asked_is_not_opened(monkeypatch, args, only, capsys):
    asked = []

    def open_it(*model, **how):
        asked.append(how["only"])
        raise ValueError("enough")

    monkeypatch.setattr(model_arguments, "open_model", open_it)
    assert embed("model", args[0], "out", *args[1:]) == 2
    assert asked == [only] and capsys.readouterr().err == "fastclip embed: enough\n"
