"""The base of image towers' configurations: everything the rest of fastclip asks about a tower.

The rest of fastclip never asks which kind of tower it has. It asks the configuration: how the
tower is written as JSON, which tensors belong to it, with which AdamW settings it was trained. The
answers given in this file are right for a tower of transformer blocks that no other library has.
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
    """AdamW's settings: the decay rates of its two averages, and the epsilon of its division."""

    beta1: float
    beta2: float
    eps: float


class Positions(NamedTuple):
    """The parameter in which a tower keeps a learned embedding for each place of its grid.

    Attributes:
        name: the parameter's name in the tower; its shape is (..., num_before + rows * columns,
            width).
        num_before: how many tokens come before the grid's tokens, such as a class token.
        interpolation: "bicubic" or "bilinear": how the tower's authors resize the embeddings to
            another grid.
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
        width: channels of a token; in a ResNet, channels of the first stage.
        layers: the number of blocks; in a ResNet, the number in each stage.
        heads: the number of attention heads; None in a tower without attention.
        channels: 3, or 1 for grey images.
        activation: see `parts/activations.py`; None where there is no choice.
        positions: the learned embeddings of the places, whose number depends on the image size;
            None in a tower without them.
        moments: the AdamW settings that the tower was published with; they are the defaults of
            training.
        has_projection: whether features can have another width than the tower.
        is_openais: whether openai/CLIP builds such towers, so that a file in its format may hold
            one.
        transformers_model: the `model_type` of transformers' models with such a tower, or None.
        tokens_may_be_padding: whether the tower's tokens may include the padding of a batch, which
            only a mask distinguishes from an image's tokens; code that reads the tokens without the
            mask reads padding, too.
        is_named: whether the tower's sizes follow from a name that another library publishes, not
            from numbers in the configuration; then only the image size needs a bound.
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
        """Build the tower, with random weights and with features of `embed_dim` channels."""
        raise NotImplementedError

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        """Return the models with such a tower that open_clip has names for, by name."""
        return {}

    def token_width(self, embed_dim: int) -> int:
        """Return the number of channels of the tokens that `output_tokens` adds to the result."""
        return self.width

    def preprocess(self) -> PreprocessCfg:
        """Return the preprocessing of images for published weights that come without their own."""
        return PreprocessCfg(self.image_size)

    def with_quick_gelu(self) -> "ImageTowerConfig":
        """Return the tower with open_clip's `quick_gelu`; unchanged if it has no such choice."""
        return self

    def num_matrix_parameters(self) -> int:
        """Estimate the number of parameters in matrices, convolutions and positions."""
        of_blocks = self.layers * self.width**2 * (4 + 2 * self.mlp_ratio)
        return math.prod(self.grid_size) * self.width + int(of_blocks)

    # As JSON, in open_clip's fields: the `vision_cfg`

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        """Return whether a `vision_cfg` describes such a tower."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "ImageTowerConfig":
        """Read a `vision_cfg`.

        Args:
            values: the fields of the `vision_cfg`.
            quick_gelu: the model's `quick_gelu`, which sets the default activation.

        Raises:
            ValueError: a field is unknown, or its value is not supported; the message names it.
        """
        raise NotImplementedError

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        """Return the tower's `vision_cfg`, the reverse of `from_json`.

        The caller writes `image_size`, which has the same form in every tower.
        """
        raise NotImplementedError

    def is_portable(self) -> bool:
        """Return whether open_clip can read what `to_json` writes, except for the activation."""
        return False

    # From tensors, under open_clip's names

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether a state dict, under open_clip's names, has the weights of such a tower."""
        raise NotImplementedError

    @classmethod
    def of_weights(
        cls, tensors: Mapping[str, Tensor], activation: str
    ) -> tuple["ImageTowerConfig", int]:
        """Infer from a state dict the tower, as if it had one head, and the model's `embed_dim`.

        Raises:
            KeyError: a tensor whose shape is needed is missing.
            CheckpointError: the shapes do not fit together, or do not show how the tower's features
                are read out.
        """
        raise NotImplementedError

    @classmethod
    def text_of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> TextConfig:
        """Infer the text tower of the same model from a state dict, as if it had one head.

        Raises:
            KeyError, CheckpointError: see `of_weights`.
        """
        return TextConfig.of_weights(tensors, activation)

    def with_heads(self, heads: int) -> "ImageTowerConfig":
        """Return the tower with `heads` attention heads, a number that shapes do not show."""
        raise NotImplementedError

    @property
    def attention_width(self) -> int:
        """The number of channels that the heads divide among them."""
        return self.width

    def shape(self) -> tuple:
        """Return what tensors' shapes show of the tower, except the sizes of images and patches."""
        return type(self), self.width, self.layers, int(self.width * self.mlp_ratio)

    # In other libraries

    def what_openai_lacks(self) -> dict[str, bool]:
        """Return properties that openai/CLIP's towers always have, and whether this tower differs.

        A file in openai/CLIP's format cannot state another value of them.
        """
        return {}

    def transformers_rows(self) -> Iterator[Correspondence]:
        """Yield how the tower's tensors correspond to those in models of `transformers_model`."""
        return iter(())
