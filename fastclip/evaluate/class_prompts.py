"""The prompts of every class: names and templates, from wherever they come.

    read_class_prompts(["cat", "dog"], "imagenet80")      80 templates, filled in with every name
    read_class_prompts("names.txt", "a photo of a {}.")   a name per line, one template
    read_class_prompts("names.json", "cupl.json")         prompts of every class; `json_prompts.py`

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4 (prompt ensembling).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from fastclip.data.digits.grids import PROMPTS
from fastclip.data.digits.images import DIGIT_WORDS
from fastclip.data.quoting import quoted, quoted_text, some_of
from fastclip.evaluate.imagenet import (
    IMAGENET_CLASSNAMES,
    OPENAI_IMAGENET_TEMPLATES,
    SIMPLE_IMAGENET_TEMPLATES,
)
from fastclip.evaluate.json_prompts import JsonPrompts
from fastclip.evaluate.prompts import (
    DEFAULT_TEMPLATES,
    check_template,
    read_class_names,
    read_templates,
)

NAMES_ALONE = ("{}",)
CLASSES = {"imagenet": IMAGENET_CLASSNAMES, "digits": DIGIT_WORDS}
TEMPLATES = {
    "imagenet80": OPENAI_IMAGENET_TEMPLATES,
    "imagenet7": SIMPLE_IMAGENET_TEMPLATES,
    "digits": PROMPTS,
    "none": NAMES_ALONE,
}
NAMED = 5  # classes in a message

Templates = str | os.PathLike | Sequence[str]


@dataclass(frozen=True)
class ClassPrompts:
    """What is said of each of C classes.

    Attributes:
        names: C names. A name may stand there several times, as "missile" does among ImageNet's;
            such classes have the same prompts.
        prompts: of each class, complete, at least one.
        said: how they were made, for people: "80 templates (imagenet80)".

    Raises:
        ValueError: there is no class, a class without prompts, or a name with two kinds of prompts.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    said: str

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.prompts):
            raise ValueError(
                f"there must be classes, and prompts of each, got {len(self.names)} names and "
                f"prompts of {len(self.prompts)}"
            )
        of_name: dict[str, tuple[str, ...]] = {}
        for name, prompts in zip(self.names, self.prompts, strict=True):
            if not prompts:
                raise ValueError(f"there must be a prompt of each class, but {name!r} has none")
            if of_name.setdefault(name, prompts) != prompts:
                raise ValueError(f"two classes are called {name!r}, and have different prompts")


def make_class_prompts(
    names: Sequence[str], templates: Sequence[str], said: str | None = None
) -> ClassPrompts:
    """Fill in every template with every name.

    Args:
        names: C class names.
        templates: prompts with "{}" where the name goes; at least one.
        said: what they are called; by default a single template says it itself, and of several the
            number is said.

    Raises:
        TypeError: `names` or `templates` is a single string.
        ValueError: no name, no template, or a template that is not one (`prompts.py`).

    Example:
        >>> make_class_prompts(["cat", "dog"], ["a photo of a {}.", "a drawing of a {}."])
        ClassPrompts(names=('cat', 'dog'), prompts=(('a photo of a cat.', 'a drawing of a cat.'),
        ('a photo of a dog.', 'a drawing of a dog.')), said='2 templates')
    """
    for kind, values in (("names", names), ("templates", templates)):
        if isinstance(values, str):
            raise TypeError(f"{kind} must be a sequence of them, got the string {values!r}")
    if not names or not templates:
        raise ValueError("names and templates must not be empty")
    for template in templates:
        check_template(template)
    filled = tuple(tuple(template.format(name) for template in templates) for name in names)
    return ClassPrompts(tuple(names), filled, said or _said(templates))


def read_class_prompts(
    classes: Sequence[str] | str | os.PathLike,
    templates: Templates | None = None,
    dataset: str | None = None,
) -> ClassPrompts:
    """Read what is said of each class.

    Args:
        classes: a sequence of names; or the path of a text with a name per line or of a .json file
            (see `json_prompts.py`); or "imagenet", for its 1,000 names, or "digits", which are
            the demo's.
        templates: one of
            - None, which is "a photo of a {}.";
            - "imagenet80", "imagenet7" (the ensemble of the CLIP paper, and the seven templates
              that do nearly as well), "digits" (the demo's), or "none", for names alone;
            - a text with a brace, which is a template itself, or a sequence of such;
            - the path of a text with a template per line;
            - the path of a .json file of templates, or of complete prompts of each class.
        dataset: which entry of .json files is meant that are about several data sets.

    Raises:
        OSError: there is no such file, or it is no regular one.
        ValueError: a file is none of the above; names or templates are missing, blank or none; the
            prompts are not those of these classes, in which case they are named; or `dataset` is
            missing, unknown, or of no use.

    Example:
        >>> read_class_prompts(["cat", "dog"], "none").prompts
        (('cat',), ('dog',))
    """
    files = JsonPrompts(dataset)
    names = _names(classes, files)
    if blank := [name for name in names if not name.strip()]:
        raise ValueError(f"a class must have a name, got {blank[0]!r}")
    found = _made(names, templates, files)
    files.require_use()
    return found


def _names(classes: Sequence[str] | str | os.PathLike, files: JsonPrompts) -> Sequence[str]:
    if not isinstance(classes, str | os.PathLike):
        return list(classes)
    if classes in CLASSES:
        return CLASSES[classes]
    _require_file(classes, "classes", CLASSES)
    return files.names(classes) if _is_json(classes) else read_class_names(classes)


def _made(names: Sequence[str], templates: Templates | None, files: JsonPrompts) -> ClassPrompts:
    if templates is None:
        return make_class_prompts(names, DEFAULT_TEMPLATES)
    if not isinstance(templates, str | os.PathLike):
        templates = list(templates)
        if len(templates) != 1:
            return make_class_prompts(names, templates)
        (templates,) = templates
    if templates == "none":
        return make_class_prompts(names, NAMES_ALONE, "names alone")
    if templates in TEMPLATES:
        return make_class_prompts(
            names, TEMPLATES[templates], _said(TEMPLATES[templates], templates)
        )
    if isinstance(templates, str) and "{" in templates:
        return make_class_prompts(names, [templates])
    _require_file(templates, "templates", TEMPLATES)
    place = os.fspath(templates)
    if not _is_json(templates):
        found = read_templates(templates)
        return make_class_prompts(names, found, _said(found, place))
    content = files.prompts(templates, names)
    if isinstance(content, list):
        return make_class_prompts(names, content, _said(content, place))
    _require_same(names, content, place)
    num = sum(map(len, content.values()))
    return ClassPrompts(
        tuple(names), tuple(tuple(content[name]) for name in names),
        f"{num:,} prompts of the classes ({place})",
    )  # fmt: skip


def _said(templates: Sequence[str], place: str | None = None) -> str:
    if len(templates) == 1:
        text = f"1 template, {quoted(str(templates[0]))}"
    else:
        text = f"{len(templates):,} templates"
    return text if place is None else f"{text} ({place})"


def _is_json(path: str | os.PathLike) -> bool:
    return os.fspath(path).lower().endswith(".json")


def _require_file(path: str | os.PathLike, kind: str, known: dict) -> None:
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{kind}: there is no file {quoted_text(os.fspath(path))}, and it is none of "
            f"{', '.join(known)}"
        )


def _require_same(names: Sequence[str], content: dict[str, list[str]], place: str) -> None:
    missing = [name for name in dict.fromkeys(names) if name not in content]
    if missing:
        raise ValueError(f"{place} has no prompts of {some_of(missing, NAMED)}")
    if more := sorted(set(content) - set(names)):
        raise ValueError(
            f"{place} has prompts of {some_of(more, NAMED)}, which is none of the classes"
        )
