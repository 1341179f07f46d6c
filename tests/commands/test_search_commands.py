"""`fastclip index`, `search` and `duplicates`: what they print, write and refuse."""

import json
from dataclasses import replace

import pytest
import torch

from fastclip.cli import main
from fastclip.commands import searched
from fastclip.embeddings import embed
from tests.support.pair_files import image_bytes
from tests.support.ready import digits_checkpoint
from tests.support.stub_model import numbered_model

NUM = 120


@pytest.fixture(autouse=True)
def opened_models(monkeypatch):
    """The names by which models were opened; each is the model that numbers its inputs."""
    names = []

    def open_model(name, pretrained, **options):
        names.append((name, pretrained))
        return numbered_model(name)

    monkeypatch.setattr(searched, "open_model", open_model)
    return names


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    photos = tmp_path_factory.mktemp("search") / "photos"
    photos.mkdir()
    for i in range(NUM):
        (photos / f"{i:03d}.png").write_bytes(image_bytes(i))
    (photos / "copy.png").write_bytes(image_bytes(5))
    embed(numbered_model("numbers"), photos, photos.parent / "out", metadata="jsonl", store="f16")
    return photos.parent / "out"


def fastclip(*args):
    return main([str(arg) for arg in args])


def test_results_are_printed_with_what_chance_gives(out, capsys, opened_models):
    assert fastclip("search", out, "number", 5, "+", "0.5:number 7", "--top", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("   1*  0.8944  z") and "chance" in lines[0]
    assert lines[0].endswith("005.png") and lines[1].endswith("copy.png")
    assert lines[3] == (
        "3 results stand out from chance (*), by the mean and covariance of all vectors; "
        "after `fastclip index`, scores are compared with other captions"
    )
    assert opened_models == [("numbers", None)]  # as the manifest has it


def test_index_lets_captions_decide(out, tmp_path, capsys):
    captions = tmp_path / "captions.txt"
    captions.write_text("\n".join(f"number {i}" for i in (5, *range(100, 125))))
    assert fastclip("index", out, "--captions", captions) == 0
    told = capsys.readouterr()
    assert "121 vectors; 26 captions were searched for" in told.out
    assert "converting 121 vectors from float16" in told.err
    assert fastclip("search", out, "number", "5", "--top", "1") == 0
    told = capsys.readouterr().out
    assert "nothing stands out from chance, compared with the best matches of other" in told
    assert fastclip("index", out, "--export", "parquet") == 0
    told = capsys.readouterr()
    assert "kept" in told.out and "26 captions were searched for" in told.out and told.err == ""
    assert "images.parquet: 121 rows of" in told.out
    assert fastclip("index", out, "--export", "parquet") == 2
    assert "images.parquet' exists already; remove it first" in capsys.readouterr().err
    assert fastclip("index", out, "--captions", tmp_path / "none.txt") == 2
    capsys.readouterr()
    assert fastclip("index", out, "--no-captions") == 0
    assert "no captions were searched for" in capsys.readouterr().out


def test_bundled_captions_that_a_tokenizer_does_not_know_are_left_out_and_own_refused(
    out, tmp_path, capsys, monkeypatch
):
    def of_one_token(name, pretrained, **options):
        return replace(
            numbered_model(name), tokenizer=lambda texts: torch.zeros(len(texts), 1).long()
        )

    monkeypatch.setattr(searched, "open_model", of_one_token)
    assert fastclip("index", out) == 0
    told = capsys.readouterr()
    assert "only 1 of 500 captions" in told.err
    assert "no captions were searched for" in told.out
    (tmp_path / "own.txt").write_text("\n".join(map(str, range(30))))
    assert fastclip("index", out, "--captions", tmp_path / "own.txt") == 2
    assert "distinguishes only 1 of 30 captions" in capsys.readouterr().err


def test_json_has_a_line_for_each_result_and_copies_their_images(out, tmp_path, capsys):
    folder = tmp_path / "found"
    args = ["search", out, "--like", 5, "--top", 2, "--dedup", "--json", "--to-folder", folder]
    assert fastclip(*args) == 0
    told = capsys.readouterr()
    first, second = map(json.loads, told.out.splitlines())
    assert first["id"] == 120 and first["image_path"] == "copy.png" and first["alike"] == 1
    assert second["similarity"] == 0
    assert f"copied 2 images to {folder}" in told.err
    assert (folder / "001_copy.png").read_bytes() == image_bytes(5)
    assert len(list(folder.iterdir())) == 2
    assert fastclip(*args) == 2 and "exists already" in capsys.readouterr().err


def test_images_that_are_gone_are_not_copied_and_said(out, tmp_path, capsys):
    args = ["search", out, "--like", 5, "--top", 1, "--to-folder", tmp_path / "new"]
    assert fastclip(*args, "--root", tmp_path) == 0
    told = capsys.readouterr().err
    assert "copied 0 images" in told and "row 120 was not copied: " in told


def test_nothing_left_is_said_and_has_a_status(out, capsys):
    assert fastclip("search", out, "--like", 5, "--min-z", 1e6) == 1
    assert capsys.readouterr().out.startswith("no result is left; nothing stands out")


def test_images_are_searched_for_by_their_path(out, capsys):
    image = out.parent / "photos" / "008.png"
    assert fastclip("search", out, f"--image=2:{image}", "-", "number 3", "--top", 1) == 0
    assert "008.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "nothing to search for"),
        (["cat", "+"], "empty"),
        (["number 1", "--top", "0"], "--top must be at least 1"),
        (["--like", "999"], "rows are numbered from 0 to 120"),
        (["--like", "x"], "not the number of a row"),
        (["--image", "nowhere.png"], "nowhere.png cannot be searched for"),
        (["number 1", "--over", "texts"], "has no vectors of texts"),
        (["number 1", "--dedup", "1.5"], "threshold must be"),
        (["number 1", "--min-z", "nan"], "--min-z must be a number"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(out, args, message, capsys):
    assert fastclip("search", out, *args) == 2
    told = capsys.readouterr().err
    assert told.startswith("fastclip search: ") and message in told


def test_words_may_stand_on_both_sides_of_options(out, capsys):
    assert fastclip("search", out, "number 3", "--top", 2, "+", "2:number", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("004.png") and lines[1].endswith("003.png")
    with pytest.raises(SystemExit):
        fastclip("search", out, "--top", 3, "cat", "--topp", 4)
    assert "nearest: --top" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        fastclip("search", out, "--dedup", "top", "left")
    assert "'top' is not a cosine; give the words of the query before" in capsys.readouterr().err


def test_weights_are_told_as_they_were_understood(out, capsys):
    assert fastclip("search", out, "10:30 train 3", "--top", 1) == 0
    assert "searching for +10 x '30 train 3'" in capsys.readouterr().err


def test_without_the_model_of_the_manifest_it_must_be_named(out, capsys, monkeypatch):
    def fail(name, pretrained, **options):
        raise FileNotFoundError(f"there is no file or directory {name}")

    monkeypatch.setattr(searched, "open_model", fail)
    assert fastclip("search", out, "cat") == 2
    told = capsys.readouterr().err
    assert "there is no file or directory numbers): give --model" in told


def test_duplicates_are_printed_as_groups(out, capsys):
    assert fastclip("duplicates", out) == 0
    told = capsys.readouterr().out
    assert told.startswith("005.png\ncopy.png\n\n1 group of 2 near duplicates among 121 rows")
    assert fastclip("duplicates", out, "--json", "--threshold", "0.99") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"group": 1, "ids": [5, 120], "names": ["005.png", "copy.png"]}
    assert fastclip("duplicates", out, "--threshold", "0") == 2


def test_a_model_on_the_disk_is_found_again_by_its_absolute_path(
    tmp_path, monkeypatch, capsys, opened_models
):
    monkeypatch.chdir(tmp_path)
    digits_checkpoint(tmp_path / "model.pt")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(image_bytes(1))
    assert fastclip("embed", "model.pt", "images", "out", "--device", "cpu") == 0
    assert fastclip("search", "out", "one") == 2  # of the stub's weights
    assert "other weights" in capsys.readouterr().err
    assert opened_models == [(str(tmp_path / "model.pt"), None)]
