"""TIPSv2's models, under names in open_clip's style; open_clip itself has none of them.

All have B/14's logit scale, as in transformers. The published weights hold no scale; each model's
own is in the `config.json` next to them.

Source: the configurations of google-deepmind/tips and of transformers 5.24; Cao et al. 2026,
arXiv:2604.12012.
"""

import math

from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.tips.config import TipsVisionConfig
from fastclip.models.towers.tips.text_config import CONTEXT_LENGTH, VOCAB_SIZE, TipsTextConfig

TEMPERATURE = 0.005065968260169029
SO400M_RATIO = 3.7362  # 4,304 of 1,152
# name: width and heads of both towers, layers of the vision tower and of the text tower, settings
# of the MLPs in each, the repository
MODELS = {
    "TIPS-v2-B-14": (768, 12, 12, 12, {}, {}, "google/tipsv2-b14"),
    "TIPS-v2-L-14": (1024, 16, 24, 12, {}, {}, "google/tipsv2-l14"),
    "TIPS-v2-SO400M-14": (
        1152, 16, 27, 27, {"mlp_ratio": SO400M_RATIO}, {"mlp_ratio": SO400M_RATIO},
        "google/tipsv2-so400m14",
    ),
    "TIPS-v2-g-14": (1536, 24, 40, 12, {"swiglu": True}, {}, "google/tipsv2-g14"),
}  # fmt: skip
REPOSITORIES = {name: {"webli": repository} for name, (*_, repository) in MODELS.items()}


def presets() -> dict[str, ClipConfig]:
    """Return TIPSv2's models by name."""
    return {name: _tips(*row) for name, row in MODELS.items()}


def tokenizer_of(vocab_size: int, width: int) -> str | None:
    """Return the repository with the tokenizer of a text tower of these sizes, or None."""
    if vocab_size != VOCAB_SIZE:
        return None
    return next((place for own, *_, place in MODELS.values() if own == width), None)


def _tips(
    width: int, heads: int, layers: int, text_layers: int, mlp: dict, text_mlp: dict,
    repository: str,
) -> ClipConfig:  # fmt: skip
    vision = TipsVisionConfig(448, 14, width, layers, heads, **mlp)
    text = TipsTextConfig(
        CONTEXT_LENGTH, VOCAB_SIZE, width, heads, text_layers, hf_tokenizer_name=repository,
        **text_mlp,
    )  # fmt: skip
    return ClipConfig(
        width, vision, text, custom_text=True, init_logit_scale=-math.log(TEMPERATURE)
    )
