"""The class names and prompts with which ImageNet is classified: read from an installed open_clip.

They are not part of fastclip. The module that holds them is run by itself, without the package
around it and what that needs.

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4 (80 prompts, ensembled).
"""

import runpy

from fastclip.data.open_clip_files import open_clip_file

MODULE = "zero_shot_metadata.py"


def imagenet_classes() -> tuple[list[str], list[str]]:
    """Return 1,000 class names, in the order of sorted WordNet ids, and 80 templates with "{}".

    Raises:
        ModuleNotFoundError: `open_clip_torch` is not installed.
    """
    path = open_clip_file(MODULE)
    if path is None:
        raise ModuleNotFoundError(
            "the class names of ImageNet are read from open_clip: pip install open_clip_torch, or "
            "give a folder to --zeroshot-data and names to --zeroshot-classes"
        )
    found = runpy.run_path(str(path))
    templates = [template("{}") for template in found["OPENAI_IMAGENET_TEMPLATES"]]
    return list(found["IMAGENET_CLASSNAMES"]), templates
