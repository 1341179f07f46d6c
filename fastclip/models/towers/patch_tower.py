"""The base of image towers that cut an image into patches: they return tokens block by block."""

from torch import Tensor

from fastclip.models.parts.layers import Indices, Intermediates
from fastclip.models.towers.image_tower import ImageTower
from fastclip.models.towers.patch_grid import as_map, positions_of, require_format


class PatchTower(ImageTower):
    """Base of the towers of blocks that take and return (B, num_prefix + patches, width) tokens.

    Attributes:
        patch_size: height and width of a patch in pixels.
        num_prefix: how many tokens come before the patches' tokens, such as a class token.
        reads_normed: whether the readout sees tokens after the last norm.
    """

    patch_size: tuple[int, int]
    num_prefix: int = 0
    reads_normed: bool = True

    def patch_tokens(
        self,
        images: Tensor,
        layer: int | None = None,
        norm: bool | None = None,
        positions: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """See `ImageTower.patch_tokens`; the layers are the tower's blocks."""
        self.require_images(images)
        tokens = self._embeds(images)
        if layer is None:
            tokens = self._read(tokens)
        else:
            tokens, _ = self._read_layers(tokens, [layer], stop_early=True)
        if self.reads_normed if norm is None else norm:
            tokens = self._last_norm(tokens)
        patches = tokens[:, self.num_prefix :]
        return (patches, positions_of(patches, self._grid(images))) if positions else patches

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
        """See `ImageTower.forward_intermediates`; the layers are the tower's blocks."""
        require_format(output_fmt)
        self.require_images(x)
        tokens, layers = self._read_layers(self._embeds(x), indices, stop_early)
        if normalize_intermediates:
            layers = [self._last_norm(each) for each in layers]
        patches = [each[:, self.num_prefix :] for each in layers]
        if output_fmt == "NCHW":
            patches = [as_map(each, self._grid(x)) for each in patches]
        output: Intermediates = {"image_intermediates": patches}
        if output_extra_tokens and self.num_prefix:
            prefixes = [each[:, : self.num_prefix] for each in layers]
            output["image_intermediates_prefix"] = prefixes
        if not intermediates_only:
            output["image_features"] = self._features(tokens)
        return output

    def _grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of the patches of images of any size."""
        height, width = images.shape[-2:]
        return height // self.patch_size[0], width // self.patch_size[1]

    def _embeds(self, images: Tensor) -> Tensor:
        """The tokens that go into the first block."""
        raise NotImplementedError

    def _read(self, tokens: Tensor) -> Tensor:
        """All tokens that come out of the last block, not normalised."""
        raise NotImplementedError

    def _read_layers(
        self, tokens: Tensor, indices: Indices, stop_early: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """See `run_layers`."""
        raise NotImplementedError

    def _last_norm(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def _features(self, tokens: Tensor) -> Tensor:
        """The (B, output_dim) features that are read out of a block's output."""
        raise NotImplementedError
