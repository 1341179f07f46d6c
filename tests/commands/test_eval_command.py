"""`fastclip eval`, from data on disk to a table and a line of results."""

import json
import signal

import pytest

from fastclip.cli import main
from fastclip.commands import eval as eval_command
from fastclip.evaluate.results.file import read_results
from tests.support.pair_files import image_bytes
from tests.support.ready import digits_checkpoint, tiny_directory


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of digits, with random weights."""
    folder = tmp_path_factory.mktemp("models")
    return [str(digits_checkpoint(folder / f"{seed}.pt", seed)) for seed in range(2)]


def evaluate(*arguments):
    return main(["eval", *map(str, arguments), "--device", "cpu", "--workers", "0"])


@pytest.fixture
def refused(capsys):
    """Asserts that arguments are refused, and returns the message."""

    def refuse(*arguments):
        assert evaluate(*arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("fastclip eval: ") and "Traceback" not in captured.err
        return captured.err

    return refuse


def write_pairs(folder, num=6):
    rows = ["filepath\ttitle"]
    for i in range(num):
        (folder / f"{i}.png").write_bytes(image_bytes(20 * (i // 2), (16, 24)))
        rows.append(f"{i}.png\ttop left {('one', 'two', 'three')[i // 2]} {'and' * (i % 2)}")
    (folder / "pairs.tsv").write_text("\n".join(rows) + "\n")
    return folder / "pairs.tsv"


def test_tables_and_lines_of_two_models_that_are_compared(models, tmp_path, capsys):
    features = tmp_path / "features"
    for name, model in zip("ab", models, strict=True):
        output = tmp_path / f"{name}.jsonl"
        assert evaluate(model, "--data", "digits", "--output", output, "--features",
                        features / name) == 0  # fmt: skip
        said = capsys.readouterr().out
        assert "digits: zero-shot classification, 359 images" in said
        assert "95 %:" in said and "6 templates" in said and "together" in said
        (line,) = read_results(output)
        assert (line["dataset"], line["model"], line["pretrained"]) == ("digits", model, "")
        assert line["metrics"].keys() == {"acc1", "acc5", "mean_per_class_recall"}
        assert f"{line['metrics']['acc1']:.2%}" in said
        assert line["prompt_gain"]["templates"] == 6 and len(line["per_class"]) == 10
    # The same again, with stored features, is the same line.
    assert evaluate(models[0], "--data", "digits", "--output", tmp_path / "a.jsonl", "--features",
                    features / "a") == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "359 features were read from" in said
    assert "already had results of this model, data and task (1)" in said
    one, other = read_results(tmp_path / "a.jsonl")
    assert one == other
    assert evaluate(models[1], "--data", "digits", "--features", features / "a") == 2
    assert "weights" in capsys.readouterr().err
    assert main(["eval", "--compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "McNemar's exact test: p = " in said and "359 answers" in said and models[1] in said


def write_folders(folder, numbers):
    for name, shift in (("one", 0), ("two", 100)):
        (folder / name).mkdir(parents=True)
        for i in numbers:
            (folder / name / f"{i}.png").write_bytes(image_bytes(i + shift, (24, 16)))
    return folder


def test_all_tasks_of_two_data_sets_in_the_form_of_clip_benchmark(models, tmp_path, capsys):
    pairs = write_pairs(tmp_path)
    train, test = (
        write_folders(tmp_path / name, numbers)
        for name, numbers in (("train", range(3)), ("test", range(20, 23)))
    )
    assert evaluate(
        models[0], "--data", test, pairs, "--train-data", train, "--task", "all",
        "--shots", 1, 2, "--seeds", 1, "--recall-at", 1, 2, "--figure", tmp_path / "f.png",
    ) == 2  # fmt: skip
    assert "--figure needs one labelled data set" in capsys.readouterr().err
    assert evaluate(
        models[0], "--data", test, pairs, "--train-data", train, "--task", "zero-shot",
        "few-shot", "retrieval", "--shots", 1, 2, "--seeds", 1, "--recall-at", 1, 2,
        "--output", tmp_path / "r.jsonl", "--format", "clip-benchmark",
    ) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "3 images and 6 texts" in said and "2 of each class, 1 draw " in said
    lines = read_results(tmp_path / "r.jsonl")
    assert [line["task"] for line in lines] == [
        "zeroshot_classification", "linear_probe", "linear_probe", "zeroshot_retrieval",
    ]  # fmt: skip
    assert lines[-1]["metrics"].keys() == {
        f"{side}_retrieval_recall@{k}" for side in ("image", "text") for k in (1, 2)
    }
    assert all(line.keys() == lines[0].keys() for line in lines)


def test_a_flag_that_one_of_several_data_sets_looks_at_is_of_use(models, tmp_path, capsys):
    table = write_pairs(tmp_path)
    (tmp_path / "pairs.csv").write_text(table.read_text().replace("\t", ","))
    assert evaluate(
        models[0], "--data", write_folders(tmp_path / "d", range(2)), tmp_path / "pairs.csv",
        "--csv-separator", ",",
    ) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "4 images" in said and "3 images and 6 texts" in said


def test_a_figure_of_zero_shot_and_probes(models, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = {}
    monkeypatch.setattr(
        "fastclip.evaluate.figures.probe_figure", lambda path, **found: drawn.update(found)
    )
    test = write_folders(tmp_path / "test", range(20, 23))
    train = write_folders(tmp_path / "train", range(12))
    assert evaluate(
        models[0], "--data", test, "--train-data", train, "--task",
        "all", "--shots", 1, 2, "--seeds", 1, "--figure", tmp_path / "f.png",
    ) == 0  # fmt: skip
    assert drawn.keys() == {"zero_shot", "few_shot", "full_probe", "title"}
    assert drawn["few_shot"].shots == (1, 2) and len(drawn["zero_shot"].correct) == 6
    assert "linear probe, 6 images, trained on" in capsys.readouterr().out


def test_a_model_of_images_with_prompts_of_ones_own(tmp_path, capsys):
    model = tiny_directory(tmp_path / "model")
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(3):
            place = tmp_path / "pets" / name / f"{i}.png"
            place.write_bytes(image_bytes(90 * number + i, (40, 32)))
    (tmp_path / "prompts.txt").write_text("a {} on a chair.\nthe {}\n")
    assert evaluate(model, "--data", tmp_path / "pets", "--templates", tmp_path / "prompts.txt",
                    "--output", tmp_path / "r.jsonl", "--format", "datacomp") == 0  # fmt: skip
    (line,) = read_results(tmp_path / "r.jsonl")
    assert line["key"] == "pets" and line["metrics"]["main_metric"] == line["metrics"]["acc1"]
    assert "2 templates" in capsys.readouterr().out
    for decode in ("exact", "fast"):
        assert evaluate(model, "--data", tmp_path / "pets", "--output", tmp_path / "both.jsonl",
                        "--decode", decode) == 0  # fmt: skip
    exact, fast = read_results(tmp_path / "both.jsonl")
    assert fast["digests"]["preprocess"] != exact["digests"]["preprocess"]


NOTHING_DONE = [
    (["--data", "digits"], "MODEL is missing"),
    (["MODEL"], "--data is missing"),
    (["nowhere.pt", "--data", "digits"], "no file or directory nowhere.pt"),
    (["MODEL", "--data", "nowhere"], "no such file or folder: 'nowhere'"),
    (["MODEL", "--data", "digits", "--task", "probe"], "a probe needs --train-data"),
    (["MODEL", "--data", "digits-held-out", "--task", "zero-shot"], "labelled images are needed"),
    (["MODEL", "--data", "digits", "digits-held-out", "--task", "zero-shot", "retrieval",
      "--shots", "1"], "--shots has no effect: it belongs to the task few-shot"),
    (["MODEL", "--data", "digits-held-out", "--classes", "x"], "--classes has no effect"),
    (["MODEL", "--data", "digits", "--recall-at", "3"], "--recall-at has no effect"),
    (["MODEL", "--data", "digits", "--task", "zero-shot", "--train-data", "digits-train"],
     "--train-data has no effect"),
    (["MODEL", "--data", "digits", "--train-data", "digits-train", "digits-train"],
     "one data set for each labelled set, got 2"),
    (["MODEL", "--data", "digits", "--format", "datacomp"], "no effect without --output"),
    (["MODEL", "--data", "digits", "--train-data", "digits-train", "--format", "datacomp",
      "--output", "r"], "DataComp has no task 'probe'"),
    (["MODEL", "--data", "digits", "--output", "no/r"], "no/r cannot be written"),
    (["MODEL", "--data", "digits", "--classes", "CLASSES"], "digits has 10"),
    (["MODEL", "--data", "digits", "--label-key", "x"], "(--label-key) has no effect"),
    (["MODEL", "--data", "digits", "digits-held-out", "--csv-separator", ","],
     "--csv-separator has no effect: digits (built-in data) uses no such setting; digits-held-out"),
    (["MODEL", "--data", "digits", "--split", "test"], "--split has no effect: digits (built-in"),
    (["MODEL", "--data", "digits", "--train-data", "digits-train", "--train-split", "x"],
     "--train-split has no effect: digits-train (built-in"),
    (["MODEL", "--data", "digits", "--train-split", "x"], "--train-split has no effect without"),
    (["MODEL", "--data", "digits", "--caption-key", "x"], "--caption-key has no effect: digits"),
    (["MODEL", "--compare", "a", "b"], "MODEL has no effect"),
    (["--compare", "a", "b", "--output", "r"], "--output has no effect"),
    (["--compare", "a", "b"], "No such file"),
    (["MODEL", "--data", "digits", "--decode", "fast"], "decode must be 'exact'"),
]  # fmt: skip


@pytest.mark.parametrize("arguments, message", NOTHING_DONE)
def test_what_cannot_be_done_is_refused_by_name(
    arguments, message, models, tmp_path, refused, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names").write_text("cat\ndog\n")
    given = {"MODEL": models[0], "CLASSES": str(tmp_path / "names")}
    assert message in refused(*(given.get(argument, argument) for argument in arguments))
    assert not (tmp_path / "r").exists()


def test_files_of_results_are_left_as_they_are_if_they_are_something_else(
    models, tmp_path, refused
):
    (tmp_path / "notes.txt").write_text("mine\n")
    told = refused(models[0], "--data", "digits", "--output", tmp_path / "notes.txt")
    assert "notes.txt is not a file of results: line 1" in told
    assert (tmp_path / "notes.txt").read_text() == "mine\n"


def test_bad_images_are_counted_and_too_many_end_it(models, tmp_path, capsys):
    write_folders(tmp_path / "d", range(12))
    (tmp_path / "d" / "two" / "0.png").write_bytes(b"no image")
    output = tmp_path / "r.jsonl"
    assert evaluate(models[0], "--data", tmp_path / "d", "--output", output) == 0
    said = capsys.readouterr().out
    assert "23 images; 1 of 24 samples are bad and left out" in said and "two/0.png" in said
    (line,) = read_results(output)
    assert line["samples"] == 23 and line["skipped"]["reasons"] == {"unusable image": 1}
    assert evaluate(models[0], "--data", tmp_path / "d", "--max-bad-rate", "0.01") == 2
    assert "4.2% of the samples are bad" in capsys.readouterr().err


def test_help_has_whole_examples_and_the_command_is_listed(capsys):
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    said = capsys.readouterr().out
    assert "fastclip eval demo-output/checkpoint.pt --data digits" in said
    assert "--compare base.jsonl mine.jsonl" in said
    assert json.dumps(said).isascii()


def test_ctrl_c_says_how_many_data_sets_are_done(models, tmp_path, monkeypatch, capsys):
    def interrupted(result):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(eval_command.words, "report", interrupted)
    assert evaluate(models[0], "--data", "digits") == 130
    assert capsys.readouterr().err == "fastclip eval: stopped; 0 of 1 data sets evaluated\n"
