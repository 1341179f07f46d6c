"""The names of `open_clip.transformer`."""

from fastclip.compat.absent import absent
from fastclip.models.coca.decoder import MultimodalTransformer
from fastclip.models.parts.activations import QuickGELU
from fastclip.models.parts.attentional_pooler import AttentionalPooler
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layer_norm import LayerNorm as LayerNormFp32
from fastclip.models.parts.patch_dropout import PatchDropout
from fastclip.models.parts.transformer import (
    Attention,
    LayerScale,
    Transformer,
)
from fastclip.models.parts.transformer import ResidualBlock as ResidualAttentionBlock
from fastclip.models.towers.text.module import TextTransformer
from fastclip.models.towers.vision_transformer.module import VisionTransformer

globals().update(
    absent(
        {
            "only towers that are not built in use it": (
                "CustomResidualAttentionBlock",
                "CustomTransformer",
            ),
            "a text tower pools its own tokens": ("text_global_pool",),
            "model.lock_text_tower(unlocked_layers) does the same": ("lock_text_tower",),
        }
    )
)
