"""The projection of an image's patches to tokens, under timm's names."""

from torch import Tensor, nn

from fastclip.models.parts.transformer import matrix_dtype


class PatchEmbed(nn.Module):
    """Turns (B, 3, height, width) images into (B, num_patches, width) tokens.

    Pixels beyond the last whole patch are not read.
    """

    def __init__(self, patch_size: int, width: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images.to(matrix_dtype(self.proj))).flatten(2).transpose(1, 2)
