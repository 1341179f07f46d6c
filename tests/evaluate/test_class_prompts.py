"""The prompts of each class: names and templates from lines, JSON and the command line."""

import importlib.util
import json
from pathlib import Path

import pytest

from fastclip.evaluate.class_prompts import (
    ClassPrompts,
    make_class_prompts,
    read_class_prompts,
)
from fastclip.evaluate.imagenet import IMAGENET_CLASSNAMES

PETS = ["cat", "dog"]


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def of_clip_benchmark(name):
    """The path of a file that comes with CLIP_benchmark, which is not imported."""
    found = importlib.util.find_spec("clip_benchmark")
    if found is None:
        pytest.skip("clip_benchmark is not installed")
    return str(Path(found.origin).with_name("datasets") / f"{name}.json")


def test_every_template_is_filled_in_with_every_name():
    found = make_class_prompts(["cat", "dog", "cat"], ["a {}", "{0} in {{braces}}"])
    cat, dog = ("a cat", "cat in {braces}"), ("a dog", "dog in {braces}")
    assert found == ClassPrompts(("cat", "dog", "cat"), (cat, dog, cat), "2 templates")


@pytest.mark.parametrize(
    "templates, last, count, said",
    [
        (None, "a photo of a dog.", 1, "1 template, 'a photo of a {}.'"),
        ("none", "dog", 1, "names alone"),
        (["none"], "dog", 1, "names alone"),
        ("imagenet7", "a photo of the small dog.", 7, "7 templates (imagenet7)"),
        ("imagenet80", "a tattoo of the dog.", 80, "80 templates (imagenet80)"),
        ("my {}", "my dog", 1, "1 template, 'my {}'"),
        (["my {}", "your {}"], "your dog", 2, "2 templates"),
    ],
)
def test_templates_have_names_or_are_given(templates, last, count, said):
    found = read_class_prompts(PETS, templates)
    assert found.names == ("cat", "dog") and found.said == said
    assert found.prompts[1][-1] == last and list(map(len, found.prompts)) == [count, count]


@pytest.mark.parametrize(
    "names, templates, dataset",
    [
        ("cat\ndog\n", "a {}\nthe {}\n", None),
        (PETS, ["a {}", "the {c}"], None),
        ({"pets": PETS, "x": ["y"]}, {"pets": ["a {c}", "the {c}"], "x": ["{c}"]}, "pets"),
        (PETS, {"dog": ["a dog", "the dog"], "cat": ["a cat", "the cat"]}, None),
        (PETS, {"pets": {"dog": ["a dog", "the dog"], "cat": ["a cat", "the cat"]}}, "pets"),
        ({"pets": PETS}, {"dog": ["a dog", "the dog"], "cat": ["a cat", "the cat"]}, "pets"),
    ],
    ids=["lines", "lists", "data sets", "cupl", "cupl of data sets", "names of data sets"],
)
def test_forms_of_files_say_the_same(tmp_path, names, templates, dataset):
    suffix = "txt" if isinstance(names, str) else "JSON"
    first = write(tmp_path, f"names.{suffix}", names)
    second = write(tmp_path, f"prompts.{suffix}", templates)
    found = read_class_prompts(first, Path(second), dataset)
    assert found.names == ("cat", "dog")
    assert found.prompts == (("a cat", "the cat"), ("a dog", "the dog"))
    is_cupl = isinstance(templates, dict) and "cat" in templates.get("pets", templates)
    count = "4 prompts of the classes" if is_cupl else "2 templates"
    assert found.said == f"{count} ({second})"


def test_names_are_imagenets_and_equal_ones_share_the_prompts_of_cupl(tmp_path):
    path = write(tmp_path, "cupl.json", {name: [f"The {name}."] for name in IMAGENET_CLASSNAMES})
    found = read_class_prompts("imagenet", path)
    assert found.names == IMAGENET_CLASSNAMES and found.names.count("missile") == 2
    assert found.said == f"998 prompts of the classes ({path})"


def test_files_of_clip_benchmark_are_read_as_there():
    for_imagenet, names = of_clip_benchmark("en_zeroshot_classification_templates"), "imagenet"
    found = read_class_prompts(names, for_imagenet, "imagenet1k")
    assert found.prompts == read_class_prompts(names, "imagenet80").prompts
    names = of_clip_benchmark("en_classnames")
    (seven,) = read_class_prompts(names, for_imagenet, "mnist").prompts[7]
    assert seven == 'a photo of the number: "7".'
    path = of_clip_benchmark("cupl_prompts")  # of more bytes than JSON beside a model may have
    found = read_class_prompts(names, path, "imagenet1k")
    assert len(found.names) == 1000 and set(map(len, found.prompts)) == {150}
    assert found.prompts[0] == tuple(json.loads(Path(path).read_text())["imagenet1k"]["tench"])


def test_doubled_braces_are_braces(tmp_path):
    path = write(tmp_path, "t.json", ["{{c}} {c}", "{{{c}}}", "{c} and {c}"])
    assert read_class_prompts(["cat"], path).prompts == (("{c} cat", "{cat}", "cat and cat"),)


@pytest.mark.parametrize(
    "names, templates, dataset, message",
    [
        (PETS, {"cat": ["A cat."]}, None, "has no prompts of the classes dog"),
        (PETS, {n: [f"A {n}."] for n in ("cat", "dog", "cow")}, None, "has prompts of cow, but"),
        (PETS, {"pets": ["a {c}"], "cars": ["{c}"]}, None, "(--dataset): pets, cars"),
        (PETS, {"pets": {"cat": ["A cat."]}}, None, "(--dataset): pets"),
        (PETS, {"pets": ["a {c}"], "cars": ["{c}"]}, "cows", "'cows'; it has entries for pets, ca"),
        (PETS, ["a {}"], "pets", "dataset='pets' (--dataset) selects an entry of a JSON file"),
        (PETS, {"cat": ["a {}"], "dog": ["a dog"]}, None, "'a {}' is a template, but the prompts"),
        (PETS, ["a photo"], None, "'a photo' is not a template"),
        (PETS, ["a {d}"], None, "it has a field {d}"),
        (PETS, ["a {}", 3], None, "templates must be texts that are not blank, got 3"),
        (PETS, [], None, "must hold a JSON list or object that is not empty, got []"),
        (PETS, {}, None, "must hold a JSON list or object that is not empty, got {}"),
        (PETS, "a {}", None, "is not JSON"),
        (PETS, {"cat": [], "dog": ["a dog"]}, None, "prompts of 'cat' must be a list of texts"),
        (PETS, {"cat": {"a": ["b"]}, "dog": ["a dog"]}, None, "prompts of 'cat' must be a list"),
        (["cat", " "], None, None, "the name of a class must not be blank, got ' '"),
        ([], None, None, "names and templates must not be empty"),
        (PETS, (), None, "names and templates must not be empty"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, names, templates, dataset, message):
    is_file = templates not in (None, ())
    where = write(tmp_path, "prompts.json", templates) if is_file else templates
    with pytest.raises(ValueError) as raised:
        read_class_prompts(names, where, dataset)
    assert message in str(raised.value)
    if is_file and not message.startswith("dataset="):
        assert where in str(raised.value)


def test_missing_files_are_named_with_what_there_is():
    with pytest.raises(FileNotFoundError, match="'imagenet8', and the built-in ones are imagenet"):
        read_class_prompts(PETS, "imagenet8")
    with pytest.raises(
        FileNotFoundError, match="classes: there is no file 'cat', and the built-in ones are"
    ):
        read_class_prompts("cat")


@pytest.mark.parametrize(
    "names, prompts, message",
    [
        ((), (), "got 0 names and prompts of 0"),
        (("cat",), (), "got 1 names and prompts of 0"),
        (("cat", "dog"), (("a cat",), ()), "but 'dog' has none"),
        (("cat", "cat"), (("a cat",), ("the cat",)), "two classes are called 'cat'"),
    ],
)
def test_prompts_that_are_none_are_refused(names, prompts, message):
    with pytest.raises(ValueError, match=message):
        ClassPrompts(names, prompts, "by hand")
