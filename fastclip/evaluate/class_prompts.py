"""The prompts of every class, made of names and templates that are given, read or built in.

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
    """The names and the prompts of C classes.

    Attributes:
        names: C names. Several classes may have the same name, as ImageNet has "missile" twice;
            such classes have the same prompts.
        prompts: for each class its complete prompts, at least one.
        said: a description of how the prompts were made, such as "80 templates (imagenet80)".

    Raises:
        ValueError: there is no class, a class has no prompts, or two classes of the same name have
            different prompts.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    said: str

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.prompts):
            raise ValueError(
                f"there must be at least one class, and prompts for every class; got "
                f"{len(self.names)} names and prompts of {len(self.prompts)} classes"
            )
        of_name: dict[str, tuple[str, ...]] = {}
        for name, prompts in zip(self.names, self.prompts, strict=True):
            if not prompts:
                raise ValueError(f"every class must have a prompt, but {name!r} has none")
            if of_name.setdefault(name, prompts) != prompts:
                raise ValueError(f"two classes are called {name!r} but have different prompts")


def make_class_prompts(
    names: Sequence[str], templates: Sequence[str], said: str | None = None
) -> ClassPrompts:
    """Fill in every template with every name.

    Args:
        names: C class names.
        templates: prompts with "{}" where the name goes; at least one.
        said: a description of the templates; by default the text of a single template, or the
            number of several.

    Raises:
        TypeError: `names` or `templates` is a single string.
        ValueError: there is no name or no template, or a template is not valid (`prompts.py`).

    Example:
        >>> make_class_prompts(["cat", "dog"], ["a photo of a {}.", "a drawing of a {}."])
        ClassPrompts(names=('cat', 'dog'), prompts=(('a photo of a cat.', 'a drawing of a cat.'),
        ('a photo of a dog.', 'a drawing of a dog.')), said='2 templates')
    """
    for kind, values in (("names", names), ("templates", templates)):
        if isinstance(values, str):
            raise TypeError(f"{kind} must be a sequence of strings, got the string {values!r}")
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
    """Make the prompts of every class from names and templates, which may be files.

    Args:
        classes: a sequence of names; or the path of a text file with a name per line or of a .json
            file (see `json_prompts.py`); or "imagenet", for its 1,000 names, or "digits", for the
            names of the demo.
        templates: one of
            - None, which stands for "a photo of a {}.";
            - "imagenet80" (the ensemble of the CLIP paper), "imagenet7" (the seven templates that
              do nearly as well), "digits" (the demo's), or "none", for names alone;
            - a text with a brace, which is a template itself, or a sequence of such texts;
            - the path of a text file with a template per line;
            - the path of a .json file of templates, or of complete prompts of each class.
        dataset: the entry to take from .json files that are about several data sets.

    Raises:
        OSError: there is no such file, or it is not a regular file.
        ValueError: a file has none of these forms; there are no names or templates, or one is blank
            or not valid; the prompts belong to other classes, which the message names; or
            `dataset` is missing, unknown, or given although no file is about several data sets.

    Example:
        >>> read_class_prompts(["cat", "dog"], "none").prompts
        (('cat',), ('dog',))
    """
    files = JsonPrompts(dataset)
    names = _names(classes, files)
    if blank := [name for name in names if not name.strip()]:
        raise ValueError(f"the name of a class must not be blank, got {blank[0]!r}")
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
            f"{kind}: there is no file {quoted_text(os.fspath(path))}, and the built-in ones are "
            f"{', '.join(known)}"
        )


def _require_same(names: Sequence[str], content: dict[str, list[str]], place: str) -> None:
    missing = [name for name in dict.fromkeys(names) if name not in content]
    if missing:
        raise ValueError(f"{place} has no prompts of the classes {some_of(missing, NAMED)}")
    if more := sorted(set(content) - set(names)):
        raise ValueError(
            f"{place} has prompts of {some_of(more, NAMED)}, but the given classes do not "
            "include these names"
        )
