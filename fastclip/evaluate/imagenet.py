"""The class names and prompts with which ImageNet is classified: read from an installed open_clip.

They are not part of fastclip. The module that holds them is run by itself, without the package
around it and what that needs.

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4 (80 prompts, ensembled).
"""

import importlib.util
import runpy
from pathlib import Path

MODULE = "zero_shot_metadata.py"


def imagenet_classes() -> tuple[list[str], list[str]]:
    """Return 1,000 class names, in the order of sorted WordNet ids, and 80 templates with "{}".

    Raises:
        ModuleNotFoundError: `open_clip_torch` is not installed.
    """
    package = importlib.util.find_spec("open_clip")
    for directory in (package and package.submodule_search_locations) or ():
        path = Path(directory, MODULE)
        if path.is_file():
            found = runpy.run_path(str(path))
            templates = [template("{}") for template in found["OPENAI_IMAGENET_TEMPLATES"]]
            return list(found["IMAGENET_CLASSNAMES"]), templates
    raise ModuleNotFoundError(
        "the class names of ImageNet are read from open_clip: pip install open_clip_torch, or give "
        "a folder to --zeroshot-data and names to --zeroshot-classes"
    )
