"""The configuration of a model: both towers and the space that their features share.

The values are plain, have open_clip's names, and are stored with every checkpoint.
`open_clip_config.py` reads and writes them as open_clip's JSON.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastclip.data.limits import MOST_PARAMETERS
from fastclip.data.quoting import quoted
from fastclip.models.coca.config import MultimodalConfig
from fastclip.models.coca.consistency import require_writable
from fastclip.models.towers.config_checks import require_exponents, require_flags, require_sizes
from fastclip.models.towers.image_config import ImageTowerConfig
from fastclip.models.towers.text_config import TextTowerConfig

DEFAULT_LOGIT_SCALE = math.log(1 / 0.07)
SIGLIP_LOGIT_SCALE, SIGLIP_LOGIT_BIAS = math.log(10), -10.0


@dataclass(frozen=True)
class ClipConfig(Mapping[str, Any]):
    """The configuration of a model: two towers and the dimension of the space that they share.

    It can also be read like open_clip's dict: `config["vision_cfg"]["image_size"]`, `dict(config)`.

    Attributes:
        embed_dim: the dimension of the shared space.
        vision_cfg: the configuration of the image tower.
        text_cfg: the configuration of the text tower.
        custom_text: the text tower's keys begin with `text.` instead of being at the top level.
        init_logit_scale: the initial scale, as a natural logarithm.
        init_logit_bias: None for a model without a bias.
        nonscalar_logit_scale: the scale and the bias have the shape (1,) instead of ().
        multimodal_cfg: the decoder of a model that writes captions, `CoCa`; None for a model that
            does not.

    Raises:
        ValueError: `embed_dim` is not positive, a tower without projection has another width than
            `embed_dim`, the text tower needs `custom_text`, or the decoder does not fit the towers.
    """

    embed_dim: int
    vision_cfg: ImageTowerConfig
    text_cfg: TextTowerConfig
    custom_text: bool = False
    init_logit_scale: float = DEFAULT_LOGIT_SCALE
    init_logit_bias: float | None = None
    nonscalar_logit_scale: bool = False
    multimodal_cfg: MultimodalConfig | None = None

    def __post_init__(self) -> None:
        require_sizes(embed_dim=self.embed_dim)
        require_exponents(init_logit_scale=self.init_logit_scale)
        if self.init_logit_bias is not None:
            require_exponents(init_logit_bias=self.init_logit_bias)
        require_flags(
            custom_text=self.custom_text, nonscalar_logit_scale=self.nonscalar_logit_scale
        )
        if not isinstance(self.multimodal_cfg, MultimodalConfig | None):
            raise ValueError(
                f"multimodal_cfg must be a MultimodalConfig, got {quoted(self.multimodal_cfg)}"
            )
        if self.text_cfg.stands_alone and not self.custom_text:
            raise ValueError(
                f"custom_text must be true: the keys of a {self.text_cfg.kind} begin with `text.`"
            )
        towers = [self.text_cfg] if self.vision_cfg.is_named else [self.vision_cfg, self.text_cfg]
        num_parameters = sum(tower.num_matrix_parameters() for tower in towers)
        if self.multimodal_cfg is not None:
            num_parameters += self.multimodal_cfg.num_matrix_parameters(self.text_cfg.vocab_size)
        if num_parameters > MOST_PARAMETERS:
            raise ValueError(
                f"the model would have {num_parameters:,} parameters, more than {MOST_PARAMETERS:,}"
            )
        unprojected = []
        if not self.vision_cfg.has_projection:
            unprojected.append(("vision", self.vision_cfg.width))
        if not self.text_cfg.has_projection:
            unprojected.append(("text", self.text_cfg.width))
        for tower, width in unprojected:
            if width != self.embed_dim:
                raise ValueError(
                    f"the {tower} tower has no projection: its width {width} must be "
                    f"embed_dim {self.embed_dim}"
                )
        require_writable(self)

    @property
    def activations(self) -> tuple[str | None, str | None]:
        """The activations of the vision and of the text tower; None if a tower has no choice."""
        return self.vision_cfg.activation, self.text_cfg.activation

    def with_quick_gelu(self) -> "ClipConfig":
        """Return the configuration with QuickGELU in every part that has a choice of activation."""
        vision, text = self.vision_cfg.with_quick_gelu(), self.text_cfg.with_quick_gelu()
        decoder = self.multimodal_cfg and self.multimodal_cfg.with_quick_gelu()
        return replace(self, vision_cfg=vision, text_cfg=text, multimodal_cfg=decoder)

    def __getitem__(self, name: str) -> Any:
        return self._as_json()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._as_json())

    def __len__(self) -> int:
        return len(self._as_json())

    def _as_json(self) -> dict[str, Any]:
        from fastclip.models.open_clip_config import to_json  # that module imports this one

        return to_json(self)
