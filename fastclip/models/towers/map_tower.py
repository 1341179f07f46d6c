"""The base of convolutional image towers, which return feature maps stage by stage."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor

from fastclip.models.parts.layers import (
    Indices,
    Intermediates,
    feature_take_indices,
    run_layers,
)
from fastclip.models.towers.image_tower import ImageTower
from fastclip.models.towers.patch_grid import as_tokens, positions_of, require_format

MapStage = Callable[[Tensor], Tensor]


class MapTower(ImageTower):
    """Base of the towers of stages, each of which takes and returns (B, channels, rows, columns).

    Each stage has its own numbers of channels and places, and features are read out of the last
    stage's map only. There is no class token and no last normalisation.

    Attributes:
        kind: what such a tower is called in a message.
    """

    kind: ClassVar[str]

    def patch_tokens(
        self,
        images: Tensor,
        layer: int | None = None,
        norm: bool | None = None,
        positions: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """See `ImageTower.patch_tokens`; the layers are the stages.

        Raises:
            ValueError: `norm` is True; see also `ImageTower.patch_tokens`.
        """
        self.require_images(images)
        self._require_no_norm("norm", norm)
        if layer is None:
            feature_map = self._feature_map(images)
        else:
            feature_map, _ = self._run_stages(images, [layer], stop_early=True)
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
        """See `ImageTower.forward_intermediates`; the layers are the stages.

        There are no extra tokens. The features are always the whole tower's. open_clip's ResNets,
        if `stop_early` is not set, stop at the last layer that is asked for instead, and fail to
        read features out of it unless it is the last stage.

        Raises:
            ValueError: `normalize_intermediates` is set, or the tower stops before its last stage
                without `intermediates_only`; see also `ImageTower.forward_intermediates`.
        """
        require_format(output_fmt)
        self.require_images(x)
        self._require_no_norm("normalize_intermediates", normalize_intermediates)
        num_stages = len(self._stages())
        _, last = feature_take_indices(num_stages, indices)
        if stop_early and last + 1 < num_stages and not intermediates_only:
            raise ValueError(
                f"stop_early needs intermediates_only here: the features of a {self.kind} are read "
                "out of its last stage only"
            )
        feature_map, found = self._run_stages(x, indices, stop_early)
        maps = found if output_fmt == "NCHW" else [as_tokens(each) for each in found]
        output: Intermediates = {"image_intermediates": maps}
        if not intermediates_only:
            output["image_features"] = self._features(feature_map)
        return output

    def _feature_map(self, images: Tensor) -> Tensor:
        """The output of the last stage: (B, channels, *grid_size)."""
        x = self._first_map(images)
        for stage in self._stages():
            x = stage(x)
        return x

    def _run_stages(
        self, images: Tensor, indices: Indices, stop_early: bool
    ) -> tuple[Tensor, list[Tensor]]:
        x = self._first_map(images)
        return run_layers(self._stages(), lambda stage, x: stage(x), x, indices, stop_early)

    def _require_no_norm(self, name: str, value: bool | None) -> None:
        if value:
            raise ValueError(f"{name} must be False: a {self.kind} has no last normalisation")

    def _stages(self) -> Sequence[MapStage]:
        raise NotImplementedError

    def _first_map(self, images: Tensor) -> Tensor:
        """The input of the first stage."""
        raise NotImplementedError

    def _features(self, feature_map: Tensor) -> Tensor:
        """The (B, output_dim) features that are read out of the last map."""
        raise NotImplementedError
