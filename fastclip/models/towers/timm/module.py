"""An image tower of timm's: `trunk`, a model that timm builds, and `head`, which projects features.

    features = head(trunk(images))

Keys are open_clip's: `visual.trunk.*`, followed by timm's names, and `visual.head.*`.

Source: TimmModel of open_clip_torch 3.3.0, which computes the same features.
"""

from os import PathLike

from torch import Tensor, nn

from fastclip.models.parts.batch_norm import batch_norms, count_once, keep_frozen
from fastclip.models.parts.layers import Indices, Intermediates
from fastclip.models.parts.locking import Group, lock_groups
from fastclip.models.parts.projection_head import LINEAR, MLP, projection_head
from fastclip.models.parts.transformer import matrix_dtype
from fastclip.models.towers.image_tower import ImageTower
from fastclip.models.towers.patch_grid import as_tokens, positions_of
from fastclip.models.towers.timm.config import TimmConfig
from fastclip.models.towers.timm.trunk import (
    grid_of,
    import_timm,
    learned_positions,
    make_trunk,
    width_of,
)


class TimmTower(ImageTower):
    """Encodes (B, 3, height, width) images as (B, embed_dim) features, not normalised.

    Attributes:
        trunk: timm's model.
        head: the projection; an empty `nn.Sequential` if the trunk's own classifier projects the
            features, or if they are not projected.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no such model, the model does not have one of the settings, or features
            that are not projected have another width than `embed_dim`.
    """

    in_one_dtype = True  # timm's layers take inputs in the dtype of their parameters

    def __init__(self, config: TimmConfig, embed_dim: int) -> None:
        super().__init__(config.image_size, 3, embed_dim, config.output_tokens)
        self.config = config
        self.trunk = make_trunk(config, embed_dim)
        width = width_of(self.trunk)
        if config.timm_proj == "none" and width != embed_dim:
            raise ValueError(
                f"embed_dim must be {width}, the width of {config.timm_model_name}, because the "
                f"image tower has no projection (timm_proj 'none'), got {embed_dim}"
            )
        self.head = _head(config, width, embed_dim)
        self.grid_size = grid_of(self.trunk, config.image_size)
        self.positions = learned_positions(self.trunk, self.grid_size)
        self.bn_stats_are_frozen = False
        self._counts_once = False
        # The parameters that timm itself does not train.
        self._fixed = [name for name, p in self.trunk.named_parameters() if not p.requires_grad]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features.

        With `output_tokens`, return also the tokens that `patch_tokens` returns.

        Raises:
            ValueError: `images` is not (B, 3, *image_size).
            TypeError: `images` is not floating-point.
        """
        if not self.output_tokens:
            return self.head(self.trunk(self._taken(images)))
        features = self.trunk.forward_features(self._taken(images))
        return self.head(self.trunk.forward_head(features)), self._tokens(features)

    def patch_tokens(
        self,
        images: Tensor,
        layer: int | None = None,
        norm: bool | None = None,
        positions: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """See `ImageTower.patch_tokens`; by default, these are the tokens that the trunk pools.

        The layers are the steps of the trunk's `forward_intermediates`.
        """
        if layer is None and norm is not False:
            patches = self._tokens(self.trunk.forward_features(self._taken(images)))
            return (patches, positions_of(patches, self.grid_size)) if positions else patches
        (feature_map,) = self.forward_intermediates(
            images, [-1 if layer is None else layer], stop_early=True, intermediates_only=True,
            normalize_intermediates=self._has_norm() if norm is None else norm,
        )["image_intermediates"]  # fmt: skip
        patches = as_tokens(feature_map)
        return (patches, positions_of(patches, feature_map.shape[-2:])) if positions else patches

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NCHW",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """Return the outputs of the trunk's blocks or stages; see `ImageTower`.

        Args and keys are open_clip's. The trunk determines which steps there are and which settings
        they support; timm raises for the others.
        """
        of_prefix = {"return_prefix_tokens": True} if output_extra_tokens else {}
        output = self.trunk.forward_intermediates(
            self._taken(x), indices=indices, norm=normalize_intermediates, stop_early=stop_early,
            output_fmt=output_fmt, intermediates_only=intermediates_only, **of_prefix,
        )  # fmt: skip
        last, intermediates = (None, output) if intermediates_only else output
        result: Intermediates = {"image_intermediates": list(intermediates)}
        if output_extra_tokens and intermediates and isinstance(intermediates[0], tuple):
            result["image_intermediates"] = [places for places, _ in intermediates]
            result["image_intermediates_prefix"] = [prefix for _, prefix in intermediates]
        if not intermediates_only:
            result["image_features"] = self.head(self.trunk.forward_head(last))
        return result

    def groups(self) -> list[Group]:
        """Return the trunk's layers in timm's groups, and the head if there is one."""
        models = import_timm().models
        layers = models.group_parameters(self.trunk, self.trunk.group_matcher())
        groups: list[Group] = [
            [self.trunk.get_parameter(name) for name in layers[i]] for i in sorted(layers)
        ]
        return [*groups, [self.head]] if self._has_head() else groups

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all but the last `unlocked_groups` of the trunk; the head is always trained.

        Args:
            unlocked_groups: how many of the trunk's groups are trained.
            freeze_bn_stats: whether to stop the running statistics of frozen batch normalisations.

        Raises:
            ValueError: the trunk has fewer groups.
        """
        groups = self.groups()
        lock_groups(groups[:-1] if self._has_head() else groups, unlocked_groups)
        for name in self._fixed:
            self.trunk.get_parameter(name).requires_grad_(False)
        self.bn_stats_are_frozen = freeze_bn_stats
        self.train(self.training)

    def train(self, mode: bool = True) -> "TimmTower":
        super().train(mode)
        if self.bn_stats_are_frozen:
            keep_frozen(batch_norms(self.trunk))
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only each block's input, and compute the rest again in the backward pass.

        Raises:
            ValueError: the trunk does not support gradient checkpointing.
        """
        try:
            self.trunk.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError, NotImplementedError) as error:
            raise ValueError(
                f"timm's {self.config.timm_model_name} does not support gradient checkpointing"
            ) from error
        if enable and not self._counts_once:
            count_once(self.trunk)
            self._counts_once = True

    def load_published_trunk(self, cache_dir: str | PathLike | None = None) -> None:
        """Load the weights that timm publishes under the trunk's name; timm fetches them.

        Args:
            cache_dir: the directory in which timm keeps them.

        Raises:
            RuntimeError, OSError: there are no such weights, or they could not be fetched.
        """
        published = make_trunk(self.config, self.output_dim, True, cache_dir)
        self.trunk.load_state_dict(published.state_dict())

    def _taken(self, images: Tensor) -> Tensor:
        self.require_images(images)
        return images.to(matrix_dtype(self.trunk))

    def _tokens(self, features: Tensor) -> Tensor:
        """The (B, rows * columns, width) tokens of a trunk's last features, a map or tokens."""
        if features.ndim == 3:
            return features[:, getattr(self.trunk, "num_prefix_tokens", 0) :]
        if getattr(self.trunk, "output_fmt", "NCHW") == "NHWC":
            return features.flatten(1, 2)
        return as_tokens(features)

    def _has_norm(self) -> bool:
        return not isinstance(getattr(self.trunk, "norm", nn.Identity()), nn.Identity)

    def _has_head(self) -> bool:
        return any(True for _ in self.head.parameters())


def _head(config: TimmConfig, width: int, embed_dim: int) -> nn.Sequential:
    if config.timm_proj not in (LINEAR, MLP):
        return nn.Sequential()
    return projection_head(
        config.timm_proj, width, embed_dim, bool(config.timm_proj_bias), config.timm_drop
    )
