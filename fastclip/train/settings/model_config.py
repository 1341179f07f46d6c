"""The settings of the model: which model, its first weights, and which parts are trained."""

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
        "path of a .json file with an architecture, or `digits`, a small model for the built-in "
        "data. ViT-Mini-4-32 (for images of 32 x 32 pixels), ViT-Mini-8-64 and ViT-Ti-16-128 are "
        "meant for few small images, and need no vocabulary.",
        metavar="NAME",
    )
    pretrained: str | None = setting(
        None,
        "The weights to start from: a tag of the model, or the path of a file. By default the "
        "weights are random.",
        metavar="TAG_OR_FILE",
    )
    pretrained_text: bool = setting(
        False,
        "Start a text tower that is an encoder of transformers from the published weights of that "
        "encoder, which are downloaded. This flag has no effect if --pretrained is given.",
    )
    siglip: bool = setting(
        False,
        "Train with the sigmoid loss of SigLIP, and start from the logit scale and the logit bias "
        "of SigLIP. This is the same as --loss siglip.",
    )
    lock_image: bool = setting(False, "Freeze the image tower.")
    lock_image_unlocked_groups: int = setting(
        0,
        "The number of the last groups of layers that are trained in a locked image tower.",
    )
    lock_image_freeze_bn_stats: bool = setting(
        False, "Freeze the running statistics of batch normalisation in a locked image tower, too."
    )
    lock_text: bool = setting(False, "Freeze the text tower.")
    lock_text_unlocked_layers: int = setting(
        0,
        "The number of the last layers that are trained in a locked text tower.",
    )
    grad_checkpointing: bool = setting(
        False,
        "Run the blocks of the towers again in the backward pass, which takes time and saves "
        "memory.",
    )
    force_patch_dropout: float | None = setting(
        None,
        "The fraction of an image's patches that is dropped in training. By default the model "
        "determines it.",
    )
    force_image_size: tuple[int, ...] | None = setting(
        None,
        "The size of an image in pixels, as one number or as height and width. By default the "
        "model determines it; for another size, the position embeddings are interpolated.",
        of_number=lambda size: (size,),
    )
    force_context_length: int | None = setting(
        None,
        "The number of tokens of a text. By default the model determines it; for another number, "
        "the position embeddings are interpolated.",
    )
    force_quick_gelu: bool = setting(False, "Use QuickGELU in both towers.")
    force_custom_text: bool = setting(
        False, "Prefix the names of the text tower's weights with `text.`, as open_clip does."
    )
    image_mean: tuple[float, ...] | None = setting(
        None, "The mean of the pixels per channel. By default it is the model's mean."
    )
    image_std: tuple[float, ...] | None = setting(
        None,
        "The standard deviation of the pixels per channel. By default it is the model's standard "
        "deviation.",
    )
    image_interpolation: str | None = setting(
        None,
        "The interpolation that resizes images for evaluation. By default the model determines it.",
        choices=INTERPOLATIONS,
    )
    image_resize_mode: str | None = setting(
        None,
        "The way in which images are fitted to the model's size for evaluation: shortest scales "
        "the shorter side and crops, longest scales the longer side and pads, and squash scales "
        "both sides. By default the model determines it.",
        choices=ONE_SIZE_MODES,
    )
    aug_cfg: dict[str, Any] | None = setting(
        None,
        "The augmentation of training images, such as scale='(0.8, 1.0)' gray_scale_prob=0.2. The "
        "names are the fields of AugmentationCfg.",
    )
    decode: str = setting(
        "exact",
        "The way in which JPEG files are decoded. With fast, a file that is much larger than the "
        "images of the model is decoded at a half, a quarter or an eighth of its size, but at "
        "least at twice the size that the smallest crop needs. This takes less time; the pixels "
        "differ a little, and random crops are other ones.",
        choices=DECODINGS,
    )
    cache_dir: str | None = setting(
        None,
        "The folder that keeps downloaded weights and vocabularies.",
        metavar="FOLDER",
    )
    torchcompile: bool = setting(False, "Compile the towers with torch.compile.")
