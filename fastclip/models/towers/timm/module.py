"""A tower of timm's: `trunk`, the model that timm builds, and `head`, what projects its features.

    features = head(trunk(images))

Keys are open_clip's, `visual.trunk.*` in timm's names and `visual.head.*`.

Source: TimmModel of open_clip_torch 3.3.0, whose features these are.
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
    """(B, 3, height, width) images to (B, embed_dim) features, not normalised.

    Attributes:
        trunk: timm's model.
        head: an empty `nn.Sequential` where the trunk's own classifier projects, or nothing does.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no such model, or it has no such setting, or features that are not
            projected have another width than `embed_dim`.
    """

    in_one_dtype = True  # timm's layers take inputs of the dtype of their parameters

    def __init__(self, config: TimmConfig, embed_dim: int) -> None:
        super().__init__(config.image_size, 3, embed_dim, config.output_tokens)
        self.config = config
        self.trunk = make_trunk(config, embed_dim)
        width = width_of(self.trunk)
        if config.timm_proj == "none" and width != embed_dim:
            raise ValueError(
                f"the vision tower has no projection: the width {width} of "
                f"{config.timm_model_name} must be embed_dim {embed_dim}"
            )
        self.head = _head(config, width, embed_dim)
        self.grid_size = grid_of(self.trunk, config.image_size)
        self.positions = learned_positions(self.trunk, self.grid_size)
        self.bn_stats_are_frozen = False
        self._counts_once = False
        # What timm itself does not train.
        self._fixed = [name for name, p in self.trunk.named_parameters() if not p.requires_grad]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features.

        With `output_tokens`, return also the tokens of `patch_tokens`.

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
        """See `ImageTower.patch_tokens`: what the trunk pools, behind its last normalisation.

        Layers are those of the trunk's `forward_intermediates`.
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
        """Return what leaves blocks or stages of the trunk along the way; see `ImageTower`.

        Args and keys are open_clip's; which steps there are and what they take is the trunk's
        matter, and timm says what it does not support.
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
        """The trunk's layers in timm's groups, and the head if there is one."""
        models = import_timm().models
        layers = models.group_parameters(self.trunk, self.trunk.group_matcher())
        groups: list[Group] = [
            [self.trunk.get_parameter(name) for name in layers[i]] for i in sorted(layers)
        ]
        return [*groups, [self.head]] if self._has_head() else groups

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all but the last `unlocked_groups` of the trunk's; the head is always trained.

        Args:
            freeze_bn_stats: stop the running statistics of batch normalisation in what is frozen.

        Raises:
            ValueError: there are fewer groups.
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
        """
        Raises:
            ValueError: the trunk has no gradient checkpointing.
        """
        try:
            self.trunk.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError, NotImplementedError) as error:
            raise ValueError(
                f"timm's {self.config.timm_model_name} has no gradient checkpointing"
            ) from error
        if enable and not self._counts_once:
            count_once(self.trunk)
            self._counts_once = True

    def load_published_trunk(self, cache_dir: str | PathLike | None = None) -> None:
        """Give the trunk the weights that timm publishes under its name; timm fetches them.

        Args:
            cache_dir: where timm keeps them.

        Raises:
            RuntimeError, OSError: there are none, or they could not be fetched.
        """
        published = make_trunk(self.config, self.output_dim, True, cache_dir)
        self.trunk.load_state_dict(published.state_dict())

    def _taken(self, images: Tensor) -> Tensor:
        self.require_images(images)
        return images.to(matrix_dtype(self.trunk))

    def _tokens(self, features: Tensor) -> Tensor:
        """(B, rows * columns, width) of a trunk's last features, a map or tokens."""
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
