"""The settings of evaluation: on which data a run is evaluated, and how often."""

from dataclasses import dataclass

from fastclip.train.settings.data_config import SourceConfig
from fastclip.train.settings.setting import setting


@dataclass(frozen=True)
class EvaluationConfig(SourceConfig):
    """The data that a run is evaluated on after its epochs, and how often."""

    val_data: str | None = setting(
        None,
        "The pairs to evaluate retrieval on, named in the same way as --train-data.",
        metavar="DATA",
    )
    val_frequency: int = setting(
        1,
        "Retrieval is evaluated every so many epochs, and after the last one. With 0, it is never "
        "evaluated.",
        least=0,
    )
    zeroshot_data: str | None = setting(
        None,
        "The images to classify zero-shot: a folder with a folder for each class, or `digits`.",
        metavar="FOLDER",
    )
    zeroshot_classes: str | None = setting(
        None,
        "A text file with the name of a class on each line, in the order of the sorted folders, or "
        "in any order if the names are those of the folders. By default, the names of the folders "
        "are the names of the classes.",
        metavar="FILE",
    )
    zeroshot_templates: str | None = setting(
        None,
        "A text file with a prompt on each line, in which {} or {c} stands for the name of a "
        "class. By default, the only prompt is `a photo of a {}.`",
        metavar="FILE",
    )
    imagenet_val: str | None = setting(
        None,
        "The folder of ImageNet's validation images, which are classified zero-shot with the names "
        "and prompts of open_clip.",
        metavar="FOLDER",
    )
    imagenet_v2: str | None = setting(
        None,
        "The folder of ImageNet V2, whose images are classified zero-shot with the names and "
        "prompts of open_clip.",
        metavar="FOLDER",
    )
    zeroshot_frequency: int = setting(
        2,
        "Images are classified zero-shot every so many epochs, and after the last one. With 0, "
        "they never are.",
        least=0,
    )
