"""The class names and prompts with which ImageNet is classified.

The names are in the order of sorted WordNet ids, chosen so that a word alone says which sense is
meant. A template is a text with "{}" where a name goes, and can also be called with one.

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4 (80 prompts, ensembled; the seven that
do nearly as well), in the state of open_clip_torch 3.3.0 (a test compares them).
"""

from functools import cache
from importlib.resources import files


class PromptTemplate(str):
    """A prompt with "{}" for the name: `template.format(name)` and `template(name)` are the same.

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
IMAGENET_WNIDS = _lines("imagenet_wnids.txt")  # what its folders are called, sorted
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
