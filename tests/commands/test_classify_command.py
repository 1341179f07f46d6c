"""`fastclip classify` as it is used: tables, lines of JSON, exit statuses, files of all kinds."""

import argparse
import io
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastclip.cli import main
from fastclip.commands import classify as classify_command
from fastclip.data.digits.grids import place_alone
from fastclip.data.digits.images import DIGIT_WORDS, load_digits
from fastclip.models.inference import open_model
from fastclip.models.open_clip_config import to_json
from tests.support.images import encoded, png_header, random_image
from tests.support.planted import plant, planted_directory
from tests.support.ready import digits_checkpoint, tiny_directory

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a model in which "a photo of a red." has the features of a red image, and images."""
    folder = tmp_path_factory.mktemp("classify")
    images = {colour: Image.new("RGB", (40, 50), colour) for colour in COLOURS}
    untrained = open_model(tiny_directory(folder / "untrained"), device="cpu")
    planted_directory(
        folder / "model", untrained, {f"a photo of a {c}.": image for c, image in images.items()}
    )
    for colour in COLOURS:
        images[colour].save(folder / f"{colour}.png")
    return folder


@pytest.fixture(scope="module")
def opened():
    """Models that commands have opened, by the arguments that decide."""
    return {}


@pytest.fixture
def classify(folder, opened, capsys, monkeypatch):
    def model_of(args):
        key = (args.model, args.device)
        if key not in opened:
            opened[key] = open_as_told(args)
        return opened[key]

    open_as_told = classify_command.model_of
    monkeypatch.setattr(classify_command, "model_of", model_of)
    monkeypatch.chdir(folder)

    def run(*arguments, classes=COLOURS, model="model"):
        status = main(["classify", model, *map(str, arguments), "--classes", *classes])
        return status, *capsys.readouterr()

    return run


def objects(text):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def write_all(folder, contents):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_each_image_has_a_table_and_the_summary_says_how(classify):
    status, out, err = classify("blue.png", "red.png", "--top", 2)
    assert status == 0 and err == ""
    blue, red, summary = out.split("\n\n")
    for name, table in (("blue", blue), ("red", red)):
        path, header, first, second = table.splitlines()
        assert path == f"{name}.png" and header.split() == "rank probability cosine class".split()
        assert re.fullmatch(rf"\s+1\s+0\.9\d{{3}}\s+1\.0000  {name}", first)
        assert second.split()[0] == "2"
    assert summary.splitlines() == [
        "2 images classified",
        "3 classes, 1 template, 'a photo of a {}.'; probabilities at a logit scale of 14.29",
    ]


def test_json_has_a_line_for_every_image_and_the_summary_goes_elsewhere(classify):
    status, out, err = classify("red.png", "absent.png", "green.png", "--json")
    red, absent, green = objects(out)
    assert status == 1
    assert [x["image"] for x in (red, absent, green)] == ["red.png", "absent.png", "green.png"]
    assert (red["predicted"], green["predicted"]) == ("red", "green")
    assert [x["rank"] for x in red["classes"]] == [1, 2, 3]
    assert sum(x["probability"] for x in red["classes"]) == pytest.approx(1.0)
    assert absent["skipped"] == "missing image file" and "absent.png" in absent["detail"]
    warning, counts, _ = err.splitlines()
    assert warning.startswith("fastclip classify: skipped absent.png: missing image file (")
    assert counts == "2 images classified, 1 skipped: 1 missing image file"


def test_folders_are_searched_and_what_is_passed_over_is_counted(classify, tmp_path):
    red = encoded(Image.new("RGB", (40, 50), "red"), "PNG")
    write_all(tmp_path, {"b/c/2.png": red, "b/1.PNG": red, "b/notes.txt": b"x", ".h/3.png": red})
    (tmp_path / "empty").mkdir()
    status, out, err = classify(tmp_path / "b", tmp_path / "empty")
    assert status == 1
    tables = out.split("\n\n")
    assert [table.splitlines()[0] for table in tables[:2]] == [
        str(tmp_path / "b/1.PNG"), str(tmp_path / "b/c/2.png"),
    ]  # fmt: skip
    assert tables[2].startswith(
        "2 images classified, 1 skipped: 1 folder without images; 1 file in folders ignored: "
        "1 .txt\n"
    )
    assert err == f"fastclip classify: skipped {tmp_path / 'empty'}: folder without images\n"


def test_paths_are_read_from_standard_input_as_they_come(classify, monkeypatch):
    lines = b"red.png\r\n\nabsent-\xff.png\nblue.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    status, out, _ = classify("green.png", "-", "--json", "--top", 1)
    found = objects(out)
    assert status == 1 and [x.get("predicted") for x in found] == ["green", "red", None, "blue"]
    assert os.fsencode(found[2]["image"]) == b"absent-\xff.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    status, _, err = classify("-")
    assert status == 2 and err == "fastclip classify: no image was named\n"


def test_images_of_every_kind_are_classified_or_named(classify, tmp_path):
    picture = random_image("RGB", 60, 40)
    good = {
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "palette.png": encoded(random_image("P", 30, 40), "PNG"),
        "grey16.png": encoded(random_image("I;16", 30, 40), "PNG"),
        "moving.gif": encoded(picture, "GIF", save_all=True, append_images=[picture] * 2),
        "really-a-png.jpg": encoded(picture, "PNG"),
        "one-pixel.bmp": encoded(Image.new("RGB", (1, 1)), "BMP"),
    }
    jpeg = encoded(picture, "JPEG")
    bad = {
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "corrupt.png": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "empty.png": b"",
        "huge.png": png_header(60_000, 60_000),
        "text.webp": b"<script>alert(1)</script>",
    }
    write_all(tmp_path, good | bad)
    status, out, err = classify(tmp_path, "--json")
    found = {Path(x["image"]).name: x for x in objects(out)}
    assert status == 1 and found.keys() == (good | bad).keys()
    assert {name for name, x in found.items() if "skipped" in x} == bad.keys()
    assert all(found[name]["classes"][0]["probability"] > 1 / 3 for name in good)
    for name in bad:
        assert found[name]["skipped"] == "unusable image" and found[name]["detail"]
        assert sum(f"/{name}: unusable image (" in line for line in err.splitlines()) == 1
    assert "6 images classified, 5 skipped: 5 unusable image\n" in err
    assert "60000 x 60000 pixels" in found["huge.png"]["detail"]


def test_names_cannot_forge_lines_or_speak_to_a_terminal(classify, tmp_path):
    red = encoded(Image.new("RGB", (40, 50), "red"), "PNG")
    write_all(tmp_path, {"a\n\x1b[31mb.png": red, "c\n\x1b[31md.png": b""})
    status, out, err = classify(tmp_path, classes=["red", "two\nlines\x1b[0m"])
    assert status == 1 and "\x1b" not in out + err
    assert f"{tmp_path}/a\\n\\x1b[31mb.png\n" in out and "  two\\nlines\\x1b[0m\n" in out
    assert len(out.split("\n\n")[0].splitlines()) == 4 and len(err.splitlines()) == 1
    _, out, _ = classify(tmp_path, "--json")
    assert objects(out)[0]["image"] == f"{tmp_path}/a\n\x1b[31mb.png"


def test_ties_are_said_and_repeated_names_count_once(classify):
    status, out, _ = classify("red.png", "blue.png", classes=["red", "Red", "red", "blue"])
    red, blue, summary = out.split("\n\n")
    assert status == 0
    assert red.splitlines()[-1] == "  no class is chosen: 2 classes are equally near"
    assert [line.split()[0] for line in red.splitlines()[2:5]] == ["1", "1", "3"]
    assert "no class is chosen" not in blue
    assert "3 classes of 4 names, 1 template, 'a photo of a {}.';" in summary


def test_status_is_2_where_nothing_could_be_classified_and_strict_ends(classify):
    status, out, err = classify("absent.png", "gone.png")
    assert status == 2 and len(err.splitlines()) == 2
    assert out.startswith("0 images classified, 2 skipped: 2 missing image file\n")
    status, out, err = classify("red.png", "absent.png", "blue.png", "--strict")
    assert status == 2 and out.splitlines()[0] == "red.png" and "blue" not in out.split("\n\n")[1]
    assert re.fullmatch(r"fastclip classify: absent\.png: missing image file \(.*\)\n", err)


def test_prompts_come_from_files_of_each_kind(classify, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(COLOURS))
    prompts = {colour: [f"a photo of a {colour}."] for colour in COLOURS}
    (tmp_path / "cupl.json").write_text(json.dumps({"colours": prompts}))
    status, out, _ = classify(
        "blue.png", "--templates", tmp_path / "cupl.json", "--dataset", "colours",
        classes=[str(tmp_path / "names.txt")],
    )  # fmt: skip
    assert status == 0 and out.splitlines()[2].endswith("1.0000  blue")
    assert f"3 classes, 3 prompts of the classes ({tmp_path}/cupl.json)" in out


@pytest.mark.parametrize(
    "arguments, classes, message",
    [
        ([], ["red"], "classes: there is no file 'red', and the built-in ones are imagenet, digi"),
        ([], ["a.txt", "b.txt"], "--classes: a.txt would be a class name; give a file alone"),
        ([], ["red", "red"], "give at least two classes of different names"),
        ([], ["red", " "], "the name of a class must not be blank, got ' '"),
        (["--templates", "a photo"], COLOURS, "templates: there is no file 'a photo'"),
        (["--templates", "a {c}"], COLOURS, "'a {c}' is not a template: it has a field {c}"),
        (["--templates", "none", "a {}"], COLOURS, "'none' is not a template: it must contain {}"),
        (["--dataset", "x"], COLOURS, "dataset='x' (--dataset) selects an entry of a JSON file"),
        (["--device", "tpu9"], COLOURS, "tpu9"),
    ],
)
def test_what_cannot_be_is_refused_by_name(classify, arguments, classes, message):
    status, out, err = classify("red.png", *arguments, classes=classes)
    assert status == 2 and out == ""
    assert err.startswith("fastclip classify: ") and message in err and "Traceback" not in err


def test_a_missing_model_is_named(classify):
    status, _, err = classify("red.png", model="absent/run.pt")
    assert status == 2 and "there is no file or directory absent/run.pt" in err


@pytest.mark.parametrize("flag", ["--top", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "many"])
def test_numbers_are_checked(classify, capsys, flag, value):
    with pytest.raises(SystemExit) as exit:
        classify("red.png", flag, value)
    assert exit.value.code == 2
    assert f"{flag}: must be a number of at least 1, got '{value}'" in capsys.readouterr().err


def test_a_bar_is_drawn_for_who_watches_and_tears_no_line(classify, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    status, out, err = classify("red.png", "absent.png", "blue.png")
    assert status == 1 and "classifying" in err and "3/3" in err
    assert out.splitlines()[0] == "red.png" and "2 images classified" in out
    assert re.search(r"(^|[\r\n])fastclip classify: skipped absent\.png: .*\n", err)


def test_digits_of_a_checkpoint_of_the_demo_are_told_apart(tmp_path, capsys):
    digits, ready = load_digits(), open_model(digits_checkpoint(tmp_path / "a.pt"), device="cpu")
    images = {}
    for label, word in enumerate(DIGIT_WORDS):
        first = (digits.labels == label).nonzero()[:1, 0]
        pixels = place_alone(digits.images[first], torch.tensor([0]))[0, 0]
        images[word] = Image.fromarray(pixels.numpy())
        images[word].save(tmp_path / f"{label}.png")
    model = plant(ready, {f"top left {word}": image for word, image in images.items()}).model
    content = {"state_dict": model.state_dict(), "model_config": to_json(model.config)}
    torch.save(content | {"config": {"model": "digits"}}, tmp_path / "b.pt")
    paths = [str(tmp_path / f"{label}.png") for label in range(10)]
    arguments = ["--classes", "digits", "--templates", "top left {}", "--json"]
    assert main(["classify", str(tmp_path / "b.pt"), *paths, *arguments]) == 0
    found = [x["predicted"] for x in objects(capsys.readouterr().out)]
    assert found == list(DIGIT_WORDS)


def test_help_is_sentences_with_an_example():
    parser = argparse.ArgumentParser()
    classify_command.add_arguments(parser)
    for action in parser._actions:
        if action.dest != "help":
            assert re.fullmatch(r"[A-Z].*[.'`]", action.help), action.dest
    assert "fastclip classify logs/my-run photos/ --classes names.txt --json" in parser.epilog
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert set(re.findall(r"--[a-z]+", parser.epilog)) <= flags


def test_ctrl_c_says_how_many_images_are_classified(classify, monkeypatch):
    def show(answer, as_json):
        if answer.image == "green.png":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(classify_command, "_show", show)
    status, out, err = classify("red.png", "absent.png", "green.png", "blue.png")
    assert status == 130 and out == ""
    told = "fastclip classify: stopped; 2 images classified, 1 skipped: 1 missing image file"
    assert err.splitlines()[-1] == told
