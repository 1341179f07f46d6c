"""The sizes of a CLIP model, with open_clip's names: plain values, kept in checkpoints."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class VisionConfig:
    """An image tower: pictures of `image_size` cut into square patches.

    Raises:
        ValueError: a size is not positive, the picture is not a whole number of patches, or the
            width not a whole number of heads.
    """

    image_size: tuple[int, int]  # height, width in pixels
    patch_size: int  # pixels
    width: int
    layers: int
    head_width: int = 64
    channels: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))
        height, width = self.image_size
        _require_positive(
            height=height, image_width=width, patch_size=self.patch_size, width=self.width,
            layers=self.layers, head_width=self.head_width, channels=self.channels,
        )  # fmt: skip
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.width % self.head_width:
            raise ValueError(
                f"width {self.width} is not a multiple of head_width {self.head_width}"
            )

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @property
    def num_patches(self) -> int:
        height, width = self.image_size
        return (height // self.patch_size) * (width // self.patch_size)


@dataclass(frozen=True)
class TextConfig:
    """A text tower for texts of `context_length` tokens.

    Raises:
        ValueError: a size is not positive, or the width not a whole number of heads.
    """

    context_length: int
    vocab_size: int
    width: int
    heads: int
    layers: int

    def __post_init__(self) -> None:
        _require_positive(**asdict(self))
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")


@dataclass(frozen=True)
class ClipConfig:
    """Both towers and the dimension of the space in which they meet.

    Raises:
        ValueError: `embed_dim` is not positive.
    """

    embed_dim: int
    vision_cfg: VisionConfig
    text_cfg: TextConfig

    def __post_init__(self) -> None:
        _require_positive(embed_dim=self.embed_dim)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ClipConfig":
        return cls(
            values["embed_dim"],
            VisionConfig(**values["vision_cfg"]),
            TextConfig(**values["text_cfg"]),
        )


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
