"""The names of `open_clip.transform`."""

from fastclip.compat.absent import absent
from fastclip.data.augment import (
    AugmentationCfg,
)
from fastclip.data.augment import ColorJitter as color_jitter
from fastclip.data.augment import RandomGrayscale as gray_scale
from fastclip.data.preprocess import (
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
    PreprocessCfg,
    image_transform,
    image_transform_v2,
)
from fastclip.data.transform_steps import (
    CenterCropOrPad,
    ResizeKeepRatio,
)
from fastclip.data.transform_steps import ConvertToRGB as MaybeConvertMode
from fastclip.data.transform_steps import ToTensor as MaybeToTensor

globals().update(
    absent(
        {
            "CenterCropOrPad(size, fill)(image) does the same": ("center_crop_or_pad",),
            "Python merges dicts of settings by the operator |": (
                "merge_preprocess_dict",
                "merge_preprocess_kwargs",
            ),
        }
    )
)
