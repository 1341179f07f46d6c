"""What an image tower's configuration knows of its tower, whatever the tower is.

The rest of fastclip never asks of which kind a tower is. It asks the configuration: what does the
tower look like as JSON, which tensors are its own, with which moments was it trained. What has an
answer here is the answer of a tower of transformer blocks, or of a tower that nobody else has.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor

from fastclip.data.preprocess import PreprocessCfg
from fastclip.models.checkpoints.correspondence import Correspondence
from fastclip.models.towers.text.config import TextConfig

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.image_tower import ImageTower


class Moments(NamedTuple):
    """AdamW's averages of the gradient and of its square, and what keeps the division finite."""

    beta1: float
    beta2: float
    eps: float


class Positions(NamedTuple):
    """Where a tower keeps a learned embedding per place of its grid.

    Attributes:
        name: of the (..., num_before + rows * columns, width) parameter in the tower.
        num_before: tokens that come before those of the grid, as a class token does.
        interpolation: "bicubic" or "bilinear", how the tower's authors make those of another grid.
    """

    name: str
    num_before: int
    interpolation: str = "bicubic"


class ImageTowerConfig:
    """Base of the configurations of image towers, which are frozen dataclasses.

    Attributes:
        kind: what such a tower is called in a message: "its CLIPModel has no <kind>".
        image_size: height and width in pixels.
        grid_size: rows and columns of the patches, or of the last feature map.
        width: channels of a token; of a ResNet, of its first stage.
        layers: how many blocks; of a ResNet, how many in each stage.
        heads: of attention; None in a tower without attention.
        channels: 3, or 1 for grey images.
        activation: see `parts/activations.py`; None where there is nothing to choose.
        positions: the learned embedding per place, of which another image size has another number;
            None in a tower without one.
        moments: those of AdamW that the tower was published with, and is trained with by default.
        has_projection: whether features can have another width than the tower.
        is_openais: openai/CLIP builds such towers, so that a file of its format may be of one.
        transformers_model: the `model_type` of transformers' models with such a tower, or None.
        tokens_may_be_padding: its tokens may be those of a padded batch, and only a mask tells
            which are of an image: what reads them without the mask reads padding, too.
        is_named: its sizes are those of a name that another library publishes, not numbers of the
            configuration, so that there is nothing to bound but the size of images.
    """

    kind: ClassVar[str]
    image_size: tuple[int, int]
    grid_size: tuple[int, int]
    width: int
    layers: int | tuple[int, ...]
    heads: int | None
    channels: int = 3
    activation: str | None = None
    positions: ClassVar[Positions | None] = None
    moments: ClassVar[Moments] = Moments(0.9, 0.98, 1e-6)
    has_projection: ClassVar[bool] = True
    is_openais: ClassVar[bool] = False
    transformers_model: ClassVar[str | None] = None
    tokens_may_be_padding: ClassVar[bool] = False
    is_named: ClassVar[bool] = False

    def build(self, embed_dim: int) -> "ImageTower":
        """The tower, with random weights, whose features have `embed_dim` channels."""
        raise NotImplementedError

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        """The models with such a tower that open_clip has names for, by name."""
        return {}

    def token_width(self, embed_dim: int) -> int:
        """The channels of the tokens that the tower returns with `output_tokens`."""
        return self.width

    def preprocess(self) -> PreprocessCfg:
        """How images are prepared for published weights, if nothing else is known of them."""
        return PreprocessCfg(self.image_size)

    def with_quick_gelu(self) -> "ImageTowerConfig":
        """The tower as open_clip's `quick_gelu` changes it; unchanged if it has no such choice."""
        return self

    def num_matrix_parameters(self) -> int:
        """About how many parameters: those of matrices, of convolutions and of positions."""
        of_blocks = self.layers * self.width**2 * (4 + 2 * self.mlp_ratio)
        return math.prod(self.grid_size) * self.width + int(of_blocks)

    # As JSON, in open_clip's words: its `vision_cfg`

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        """Whether a `vision_cfg` is of such a tower."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "ImageTowerConfig":
        """Read a `vision_cfg`.

        Args:
            quick_gelu: the model's `quick_gelu`, which is the default of an activation.

        Raises:
            ValueError: a field is unknown, or its value is not supported; the message names it.
        """
        raise NotImplementedError

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        """The reverse of `from_json`, but for `image_size`, which every tower has in one form."""
        raise NotImplementedError

    def is_portable(self) -> bool:
        """Whether open_clip understands what `to_json` says, up to words for its activation."""
        return False

    # From tensors, under open_clip's names

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a model's state dict is of a model with such a tower."""
        raise NotImplementedError

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["ImageTowerConfig", int]:
        """The tower that a state dict is of, as if it had one head, and the model's `embed_dim`.

        Raises:
            KeyError: a tensor that tells a size is missing.
            CheckpointError: the shapes do not fit together, or do not tell how it is read out.
        """
        raise NotImplementedError

    @classmethod
    def text_of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> TextConfig:
        """The text tower beside it, as if it had one head.

        Raises:
            as `of_weights`.
        """
        return TextConfig.of_weights(tensors, activation)

    def with_heads(self, heads: int) -> "ImageTowerConfig":
        """The tower with another number of attention heads, which shapes do not tell."""
        raise NotImplementedError

    @property
    def attention_width(self) -> int:
        """The channels that are shared among the heads."""
        return self.width

    def shape(self) -> tuple:
        """What shapes tell of the tower, but for the size of images and of patches."""
        return type(self), self.width, self.layers, int(self.width * self.mlp_ratio)

    # In other libraries

    def what_openai_lacks(self) -> dict[str, bool]:
        """What openai/CLIP has in place of what a file cannot tell it, and whether that differs."""
        return {}

    def transformers_rows(self) -> Iterator[Correspondence]:
        """Its tensors in transformers' models of `transformers_model`."""
        return iter(())
