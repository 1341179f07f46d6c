"""The configuration of an image tower that timm builds.

timm's name determines the trunk; the configuration determines how its features are pooled and
projected. The grid, the width and the number of parameters, which only timm knows, are read from a
trunk that is built without data. A trunk has the sizes that timm publishes under its name; a file
cannot ask for others.

Source: TimmModel and CLIPVisionCfg of open_clip_torch 3.3.0.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from torch import Tensor

from fastclip.data.preprocess import PreprocessCfg
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.open_clip_fields import POOLER, VISION, json_fields, names_of
from fastclip.models.towers.block_json import defaults_of
from fastclip.models.towers.config_checks import (
    require_choice,
    require_flags,
    require_fractions,
    require_patches,
)
from fastclip.models.towers.image_config import ImageTowerConfig

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.timm.module import TimmTower
    from fastclip.models.towers.timm.trunk import TrunkFacts

# An architecture, perhaps with the tag of timm's weights; never a place that timm would fetch from.
TIMM_NAME = re.compile(r"[A-Za-z]\w{0,80}(\.\w{1,80})?")
POOLS = ("", "avg", "avgmax", "max", "token", "map")
PROJECTIONS = ("linear", "mlp", "none")
SMALLEST_PATCH = 8  # side in pixels of the smallest patches of timm's trunks

# The preprocessing with which published models with a trunk were trained, if it is not OpenAI's.
ZERO_TO_ONE = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")
PREPROCESS = {
    re.compile(r"fastvit_mci[012]|vit_base_mci_224"): ZERO_TO_ONE,
    re.compile(r"fastvit_mci[34]"): dict(interpolation="bilinear"),
}


@dataclass(frozen=True)
class TimmConfig(ImageTowerConfig):
    """The configuration of an image tower that timm builds; its fields have open_clip's names.

    Attributes:
        timm_model_name: a name from timm's `list_models()`, such as "convnext_base".
        image_size: height and width of the images; a trunk with positions is made for that size.
        timm_pool: how the trunk's last features become one vector: "avg", "avgmax", "max", "token"
            or "map", if the trunk supports it; "" is the trunk's own way.
        timm_proj: how that vector is projected: "linear" and "mlp" by a head after the trunk, None
            by the trunk's own classifier; with "none" it is not projected.
        timm_proj_bias: whether the head's last layer has a bias.
        timm_drop: the rate of dropout before the linear head, or inside the MLP.
        timm_drop_path: the largest rate of stochastic depth in training; None is the trunk's own.
        patch_dropout: the fraction of patches that is dropped in training, if the trunk has
            patches.
        output_tokens: whether the tower returns the tokens of its grid along with its features.

    Raises:
        ValueError: a value is not one of these, or is out of its range.
    """

    kind: ClassVar = "timm tower"
    heads: ClassVar = None
    is_named: ClassVar = True

    timm_model_name: str
    image_size: tuple[int, int] = (224, 224)
    timm_pool: str = "avg"
    timm_proj: str | None = "linear"
    timm_proj_bias: bool = False
    timm_drop: float = 0.0
    timm_drop_path: float | None = None
    patch_dropout: float = 0.0
    output_tokens: bool = False

    def __post_init__(self) -> None:
        name = self.timm_model_name
        if not isinstance(name, str) or not TIMM_NAME.fullmatch(name):
            raise ValueError(
                "timm_model_name must be a name from timm.list_models(), such as 'convnext_base', "
                f"got {quoted(name)}"
            )
        size = require_patches(self.image_size, SMALLEST_PATCH, whole=False)
        object.__setattr__(self, "image_size", size)
        object.__setattr__(self, "timm_proj", self.timm_proj or None)
        require_choice("timm_pool", self.timm_pool, POOLS)
        require_choice("timm_proj", self.timm_proj, (*PROJECTIONS, None))
        if self.timm_pool == "" and self.timm_proj in (None, "none"):
            raise ValueError(
                f"timm_pool '' with timm_proj {self.timm_proj!r} would not pool the features: "
                f"timm_pool must then be one of {POOLS[1:]}"
            )
        require_flags(timm_proj_bias=self.timm_proj_bias, output_tokens=self.output_tokens)
        require_fractions(
            timm_drop=self.timm_drop, timm_drop_path=self.timm_drop_path or 0.0,
            patch_dropout=self.patch_dropout,
        )  # fmt: skip

    def build(self, embed_dim: int) -> "TimmTower":
        """Build the tower; see `ImageTowerConfig.build`.

        Raises:
            ImportError: timm is not installed.
            ValueError: timm has no such model, or the model does not have one of the settings.
        """
        from fastclip.models.towers.timm.module import TimmTower

        return TimmTower(self, embed_dim)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.timm.presets import presets

        return presets()

    def preprocess(self) -> PreprocessCfg:
        rows = (row for names, row in PREPROCESS.items() if names.fullmatch(self.timm_model_name))
        return PreprocessCfg(self.image_size, **next(rows, {}))

    # Properties that only the trunk knows

    @property
    def grid_size(self) -> tuple[int, int]:
        return self._facts.grid_size

    @property
    def width(self) -> int:
        return self._facts.width

    @property
    def layers(self) -> int:
        """The number of the trunk's steps that `forward_intermediates` can return."""
        return self._facts.layers

    def num_matrix_parameters(self) -> int:
        """Return the number of the trunk's parameters, without a head that projects features."""
        return self._facts.num_parameters

    @property
    def _facts(self) -> "TrunkFacts":
        from fastclip.models.towers.timm.trunk import facts_of

        return facts_of(self)

    # As JSON

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        return bool(values.get("timm_model_name"))

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "TimmConfig":
        values = TRUNK_FIELDS.read("vision_cfg", values)
        # open_clip's own configuration of this trunk, and files that repeat it, say images of 256
        # pixels; but the trunk is made for 384 and refuses them.
        is_misnamed = values["timm_model_name"] == "vitamin_xlarge_384"
        if is_misnamed and values.get("image_size") == 256:
            values["image_size"] = 384
        return cls(**values)

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        defaults = defaults_of(TimmConfig)
        values = {k: v for k, v in asdict(self).items() if v != defaults.get(k)}
        return values | {"timm_model_pretrained": False}

    def is_portable(self) -> bool:
        """Return whether open_clip builds the same tower; it only builds trunks of timm's size."""
        from fastclip.models.towers.timm.presets import SIZES

        known = SIZES.get(self.timm_model_name, ())
        return self.image_size in known or self._facts.image_size in (None, self.image_size)

    # From tensors

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        return any(name.startswith("visual.trunk.") for name in tensors)

    @classmethod
    def of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> NoReturn:
        raise CheckpointError(
            "the image tower is a timm model (visual.trunk.*), and its tensors do not show which "
            "one: give the name of the model"
        )

    def shape(self) -> tuple:
        return TimmConfig, self.timm_model_name, self.timm_pool, self.timm_proj

    @property
    def trunk_without_size(self) -> str:
        """timm's name without the tag and the image size, which names how features are computed."""
        return re.sub(r"_\d+$", "", self.timm_model_name.split(".")[0])


TRUNK_FIELDS = json_fields(
    names_of(TimmConfig),
    VISION | {"timm_model_pretrained": (False,)},
    POOLER,
)
