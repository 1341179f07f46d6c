"""The class names and templates with which ImageNet is classified zero-shot.

The names are in the order of sorted WordNet ids, and their wording distinguishes senses of a word.
A template is a text with "{}" where a name goes; it can also be called with a name.

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4 (the ensemble of 80 templates, and the
seven that do nearly as well), as in open_clip_torch 3.3.0 (a test compares them).
"""

from functools import cache
from importlib.resources import files


class PromptTemplate(str):
    """A template with "{}" for the name: `template(name)` equals `template.format(name)`.

    Example:
        >>> PromptTemplate("a photo of a {}.")("dog")
        'a photo of a dog.'
    """

    __slots__ = ()

    def __call__(self, name: str) -> str:
        return self.format(name)


@cache
def _lines(file_name: str) -> tuple[str, ...]:
    text = files("fastclip.evaluate").joinpath(file_name).read_text(encoding="utf-8")
    return tuple(text.splitlines())


IMAGENET_CLASSNAMES = _lines("imagenet_classes.txt")
IMAGENET_WNIDS = _lines("imagenet_wnids.txt")  # the names of ImageNet's folders, sorted
OPENAI_IMAGENET_TEMPLATES = tuple(map(PromptTemplate, _lines("imagenet_templates.txt")))
SIMPLE_IMAGENET_TEMPLATES = tuple(
    map(
        PromptTemplate,
        (
            "itap of a {}.",
            "a bad photo of the {}.",
            "a origami {}.",
            "a photo of the large {}.",
            "a {} in a video game.",
            "art of the {}.",
            "a photo of the small {}.",
        ),
    )
)


def imagenet_classes() -> tuple[list[str], list[str]]:
    """Return the 1,000 class names and the 80 templates."""
    return list(IMAGENET_CLASSNAMES), list(OPENAI_IMAGENET_TEMPLATES)
