"""The names of `open_clip.transformer`."""

from fastclip.compat.absent import absent
from fastclip.models.activations import QuickGELU
from fastclip.models.layer_norm import LayerNorm
from fastclip.models.layer_norm import LayerNorm as LayerNormFp32
from fastclip.models.patch_dropout import PatchDropout
from fastclip.models.text import TextTransformer
from fastclip.models.transformer import (
    Attention,
    LayerScale,
    Transformer,
)
from fastclip.models.transformer import ResidualBlock as ResidualAttentionBlock
from fastclip.models.vision_transformer import VisionTransformer

globals().update(
    absent(
        {
            "it is for towers that are not built in": (
                "AttentionalPooler",
                "CustomResidualAttentionBlock",
                "CustomTransformer",
                "MultimodalTransformer",
            ),
            "a text tower pools its own tokens": ("text_global_pool",),
            "model.lock_text_tower(unlocked_layers) does the same": ("lock_text_tower",),
        }
    )
)
