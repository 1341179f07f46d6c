"""The settings of the model: which one, where it begins, and what of it is trained."""

from dataclasses import dataclass
from typing import Any

from fastclip.data.preprocess import DECODINGS, INTERPOLATIONS, ONE_SIZE_MODES
from fastclip.train.settings.setting import Settings, setting


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The model of a run, and how its images are prepared."""

    model: str = setting(
        "ViT-B-32",
        "The name of the model: one of fastclip.list_models(), hf-hub:NAME, local-dir:PATH, the "
        "path of a .json file with an architecture, or `digits`, a small one for the built-in "
        "data. For few small images there are ViT-Mini-4-32 (images of 32 x 32 pixels), "
        "ViT-Mini-8-64 and ViT-Ti-16-128, which need no vocabulary.",
        metavar="NAME",
    )
    pretrained: str | None = setting(
        None,
        "The weights to start from: a tag of the model, or the path of a file. By default they are "
        "random.",
        metavar="TAG_OR_FILE",
    )
    pretrained_text: bool = setting(
        False,
        "Start a text tower that is an encoder of transformers from the weights that the encoder "
        "was published with, which are fetched. It has no effect where --pretrained is given.",
    )
    siglip: bool = setting(
        False,
        "Train with the sigmoid loss of SigLIP, and start from its scale and its bias, as "
        "--loss siglip does.",
    )
    lock_image: bool = setting(False, "Freeze the image tower.")
    lock_image_unlocked_groups: int = setting(
        0,
        "The number of groups of layers, counted from the last one, that are trained in a locked "
        "image tower.",
    )
    lock_image_freeze_bn_stats: bool = setting(
        False, "Freeze the running statistics of batch normalisation in a locked image tower too."
    )
    lock_text: bool = setting(False, "Freeze the text tower.")
    lock_text_unlocked_layers: int = setting(
        0,
        "The number of layers, counted from the last one, that are trained in a locked text tower.",
    )
    grad_checkpointing: bool = setting(
        False,
        "Run the blocks of the towers again in the backward, which takes time and saves memory.",
    )
    force_patch_dropout: float | None = setting(
        None,
        "The fraction of an image's patches that is dropped in training. By default it is the "
        "model's own.",
    )
    force_image_size: tuple[int, ...] | None = setting(
        None,
        "The size of an image in pixels, as one number or as height and width. By default it is "
        "the model's own; for another one, position embeddings are interpolated.",
        of_number=lambda size: (size,),
    )
    force_context_length: int | None = setting(
        None,
        "The number of tokens of a text. By default it is the model's own; for another one, "
        "position embeddings are interpolated.",
    )
    force_quick_gelu: bool = setting(False, "Use QuickGELU in both towers.")
    force_custom_text: bool = setting(
        False, "Let the names of the weights of the text tower begin with `text.`"
    )
    image_mean: tuple[float, ...] | None = setting(
        None, "The mean of the pixels of each channel. By default it is the model's own."
    )
    image_std: tuple[float, ...] | None = setting(
        None,
        "The standard deviation of the pixels of each channel. By default it is the model's own.",
    )
    image_interpolation: str | None = setting(
        None,
        "The interpolation by which images are resized for evaluation. By default it is the "
        "model's own.",
        choices=INTERPOLATIONS,
    )
    image_resize_mode: str | None = setting(
        None,
        "The way that images are made to fit for evaluation: shortest scales the shorter side and "
        "crops, longest scales the longer side and pads, squash scales both. By default it is the "
        "model's own.",
        choices=ONE_SIZE_MODES,
    )
    aug_cfg: dict[str, Any] | None = setting(
        None,
        "The augmentation of training images, such as scale='(0.8, 1.0)' gray_scale_prob=0.2; the "
        "names are the fields of AugmentationCfg.",
    )
    decode: str = setting(
        "exact",
        "With fast, a JPEG that is much larger than the images of the model is decoded in a half, "
        "a quarter or an eighth of its size, at least twice what the smallest crop needs: less "
        "time, pixels that differ a little, and other random crops.",
        choices=DECODINGS,
    )
    cache_dir: str | None = setting(
        None,
        "The folder that keeps weights and vocabularies that were fetched.",
        metavar="FOLDER",
    )
    torchcompile: bool = setting(False, "Compile the towers with torch.compile.")
