"""The configuration of SigLIP's vision transformer.

open_clip takes this tower from timm, by a name that determines the tower's size. A tower of another
size is written in fastclip's own fields, with `pool_type` "map".

Source: the SigLIP models of timm 1.0.31.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from fastclip.data.preprocess import INCEPTION_MEAN, INCEPTION_STD, PreprocessCfg
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.correspondence import (
    TIMM_BLOCK,
    Correspondence,
    block,
    joined,
    layer,
    leading_one,
    same,
)
from fastclip.models.checkpoints.shapes import depth_of, side_of, sizes_of
from fastclip.models.open_clip_fields import (
    NO_TIMM,
    POOLER,
    TIMM_DEFAULTS,
    VISION,
    json_fields,
    names_of,
)
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.towers.config_checks import require_multiple, require_sizes
from fastclip.models.towers.image_config import Positions
from fastclip.models.towers.patch_config import PatchTowerConfig
from fastclip.models.towers.siglip.text import siglip_text
from fastclip.models.towers.text.config import TextConfig

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.siglip.module import SiglipVisionTransformer

TIMM_NAME = re.compile(r"vit_(base|large|so400m|giantopt)_patch(\d+)_siglip_(\d+)")
SIGLIP_SIZES = {
    "base": dict(width=768, layers=12, heads=12),
    "large": dict(width=1024, layers=24, heads=16),
    "so400m": dict(width=1152, layers=27, heads=16, mlp_ratio=3.7362),
    "giantopt": dict(width=1536, layers=40, heads=16),
}
# The names whose towers timm builds with GELU's approximation by tanh.
WITH_TANH = re.compile(
    r"vit_(base_patch32_siglip_256|large_patch16_siglip_512|so400m_patch16_.*|giantopt_.*)"
)
# Tensors of timm's other towers with attention pooling, such as PE-Core's, which SigLIP's lack.
OTHERS_WITH_LATENT = {
    "visual.trunk.cls_token", "visual.trunk.norm_pre.weight", "visual.trunk.head.weight",
    "visual.head.proj.weight", "visual.head.mlp.fc1.weight",
}  # fmt: skip


@dataclass(frozen=True)
class SiglipVisionConfig(PatchTowerConfig):
    """The configuration of SigLIP's vision transformer.

    Its features are pooled by attention, without a class token and without a projection.

    Raises:
        ValueError: as for `VisionConfig`.
    """

    kind: ClassVar = "SigLIP tower"
    positions: ClassVar = Positions("trunk.pos_embed", num_before=0)
    has_projection: ClassVar = False
    transformers_model: ClassVar = "siglip"

    image_size: tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    patch_dropout: float = 0.0
    norm_eps: float = 1e-6
    output_tokens: bool = False

    def __post_init__(self) -> None:
        # Pixels beyond the last whole patch are not read, as at SigLIP's 384 with patches of 14.
        self.check_patches_and_blocks(whole=False)
        require_sizes(heads=self.heads)
        require_multiple("width", self.width, "heads", self.heads)

    @classmethod
    def of_timm(
        cls, timm_name: str, values: Mapping[str, Any] | None = None
    ) -> "SiglipVisionConfig":
        """Return the tower that timm builds under a name, changed by `values`.

        Args:
            timm_name: such as "vit_base_patch16_siglip_224".
            values: fields of a `vision_cfg` that may accompany the name, such as `image_size`.

        Raises:
            ValueError: the name is not a SigLIP tower's, or a field cannot be changed.
        """
        size, patch_size, image_size = _require_siglip(timm_name)
        chosen = {"image_size": int(image_size), "activation": _timm_activation(timm_name)}
        chosen |= TIMM_FIELDS.read("vision_cfg", values or {})
        return cls(patch_size=int(patch_size), **SIGLIP_SIZES[size], **chosen)

    def build(self, embed_dim: int) -> "SiglipVisionTransformer":
        from fastclip.models.towers.siglip.module import SiglipVisionTransformer

        return SiglipVisionTransformer(self)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.siglip.presets import presets

        return presets()

    def preprocess(self) -> PreprocessCfg:
        return PreprocessCfg(
            self.image_size, mean=INCEPTION_MEAN, std=INCEPTION_STD, resize_mode="squash"
        )

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        if timm_name := values.get("timm_model_name"):
            return isinstance(timm_name, str) and TIMM_NAME.fullmatch(timm_name) is not None
        return values.get("pool_type") == "map"

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "SiglipVisionConfig":
        if timm_name := values.get("timm_model_name"):
            _require_siglip(timm_name)
            values = TIMM_FIELDS.read("vision_cfg", TIMM_DEFAULTS | values)
            return cls.of_timm(values.pop("timm_model_name"), values)
        values = SIGLIP_FIELDS.read("vision_cfg", values)
        return cls(**{k: v for k, v in values.items() if k != "pool_type"})

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        name = self.timm_name
        if name is None:
            return asdict(self) | {"pool_type": "map"}
        values = {"timm_model_name": name, "timm_model_pretrained": False}
        values |= {"timm_pool": "map", "timm_proj": "none"}
        if self.activation != _timm_activation(name):
            values["activation"] = self.activation
        chosen = {"patch_dropout": self.patch_dropout, "output_tokens": self.output_tokens}
        return values | {field: value for field, value in chosen.items() if value}

    def is_portable(self) -> bool:
        return self.timm_name is not None

    @property
    def timm_name(self) -> str | None:
        """timm's name of a tower of this size, or None if it has none."""
        for size, numbers in SIGLIP_SIZES.items():
            named = SiglipVisionConfig(self.image_size, self.patch_size, **numbers)
            shape = ("width", "layers", "heads", "mlp_ratio", "norm_eps")
            if all(getattr(named, f) == getattr(self, f) for f in shape):
                return f"vit_{size}_patch{self.patch_size}_siglip_{self.image_size[0]}"
        return None

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "visual.trunk.attn_pool.latent" in tensors and not OTHERS_WITH_LATENT & set(tensors)

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["SiglipVisionConfig", int]:
        trunk = "visual.trunk."
        width, _, _, patch_size = sizes_of(tensors, f"{trunk}patch_embed.proj.weight", 4)
        grid = side_of(sizes_of(tensors, f"{trunk}pos_embed", 3)[1], f"{trunk}pos_embed")
        tower = cls(
            grid * patch_size, patch_size, width, depth_of(tensors, f"{trunk}blocks."), heads=1,
            mlp_ratio=mlp_ratio(*sizes_of(tensors, f"{trunk}blocks.0.mlp.fc1.weight", 2)),
            activation=activation,
        )  # fmt: skip
        return tower, width

    @classmethod
    def text_of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> TextConfig:
        prefix = TextConfig.prefix_in(tensors)
        vocab_size, _ = sizes_of(tensors, f"{prefix}token_embedding.weight", 2)
        has_projection = f"{prefix}text_projection.weight" in tensors
        return TextConfig.of_weights(tensors, activation, **siglip_text(vocab_size, has_projection))

    def with_heads(self, heads: int) -> "SiglipVisionConfig":
        return replace(self, heads=heads)

    def transformers_rows(self) -> Iterator[Correspondence]:
        trunk, vision = "visual.trunk.", "vision_model."
        yield from layer(f"{trunk}patch_embed.proj", f"{vision}embeddings.patch_embedding")
        yield leading_one(f"{trunk}pos_embed", f"{vision}embeddings.position_embedding.weight")
        yield from siglip_rows(self.layers)


def siglip_rows(layers: int) -> Iterator[Correspondence]:
    """Yield the correspondence of the tensors after the patch embedding.

    It is the same in transformers' SiglipModel and Siglip2Model.
    """
    trunk, vision = "visual.trunk.", "vision_model."
    for i in range(layers):
        ours, theirs = f"{trunk}blocks.{i}.", f"{vision}encoder.layers.{i}."
        yield from block(ours, theirs, TIMM_BLOCK)
    yield from layer(f"{trunk}norm", f"{vision}post_layernorm")
    pool, head = f"{trunk}attn_pool.", f"{vision}head."
    yield same(f"{pool}latent", f"{head}probe")
    yield joined((f"{pool}q.weight", f"{pool}kv.weight"), f"{head}attention.in_proj_weight")
    yield joined((f"{pool}q.bias", f"{pool}kv.bias"), f"{head}attention.in_proj_bias")
    yield from layer(f"{pool}proj", f"{head}attention.out_proj")
    yield from layer(f"{pool}norm", f"{head}layernorm")
    yield from layer(f"{pool}mlp.fc1", f"{head}mlp.fc1")
    yield from layer(f"{pool}mlp.fc2", f"{head}mlp.fc2")


def _require_siglip(timm_name: str) -> tuple[str, ...]:
    match = TIMM_NAME.fullmatch(timm_name)
    if match is None:
        raise ValueError(
            "timm_model_name must be the name of a SigLIP tower, such as "
            f"'vit_base_patch16_siglip_224', got {quoted(timm_name)}"
        )
    return match.groups()


def _timm_activation(timm_name: str) -> str:
    return "gelu_tanh" if WITH_TANH.fullmatch(timm_name) else "gelu"


# SigLIP's tower in fastclip's own fields, for sizes that timm has no name for.
SIGLIP_FIELDS = json_fields(names_of(SiglipVisionConfig) | {"pool_type"}, VISION, POOLER | NO_TIMM)
# The fields that may accompany timm's name.
CHOSEN = {"image_size", "activation", "patch_dropout", "output_tokens"}
TIMM_FIELDS = json_fields(
    CHOSEN | {"timm_model_name"},
    VISION
    | {
        "timm_pool": ("map",),
        "timm_proj": ("none",),
        "timm_drop_path": (None, 0.0),
        "timm_model_pretrained": (False,),
    },
    POOLER
    | {
        "timm_drop": "open_clip only drops before its projection, and timm_proj is 'none'.",
        "timm_proj_bias": "There is no projection: timm_proj is 'none'.",
    },
)
