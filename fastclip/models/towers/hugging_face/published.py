"""The sizes of the encoders in open_clip's models, by name, so that no file needs to be fetched.

Source: the `config.json` of each on the Hugging Face Hub; Liu et al. 2019, arXiv:1907.11692
(RoBERTa); Conneau et al. 2020, arXiv:1911.02116 (XLM-R); Xue et al. 2021, arXiv:2010.11934 (mT5);
NLLB Team 2022, arXiv:2207.04672.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastclip.data.json_file import read_json_object
from fastclip.data.quoting import quoted
from fastclip.models.towers.hugging_face.families import read_architecture

_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
_XLM = {"model_type": "xlm-roberta", "vocab_size": 250002, **_ROBERTA}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
_NLLB = {"model_type": "m2m_100", "vocab_size": 256206, "encoder_layerdrop": 0}
_ENCODERS = {
    "roberta-base": {"model_type": "roberta", **_ROBERTA},
    "xlm-roberta-base": _XLM,
    "xlm-roberta-large": {**_XLM, **_LARGE, "intermediate_size": 4096},
    "google/mt5-base": {
        "model_type": "mt5", "d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12,
    },
    "google/mt5-xl": {
        "model_type": "mt5", "d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32,
    },
    "facebook/nllb-200-distilled-600M": _NLLB,
    "facebook/nllb-200-distilled-1.3B": {**_NLLB, "encoder_layers": 24, "encoder_ffn_dim": 8192},
}  # fmt: skip
ENCODERS = {name: read_architecture(name, values) for name, values in _ENCODERS.items()}


def architecture_of(name: str, told: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of the encoder that `hf_model_name` names; nothing is fetched for a name.

    Args:
        name: a name that is known here, or a directory with a `config.json`.
        told: the encoder in transformers' fields, if it is already known; then `name` is not read.

    Raises:
        ValueError: the name is neither, or the configuration is not supported.
    """
    if told:
        return read_architecture("hf_config", told)
    if name in ENCODERS:
        return dict(ENCODERS[name])
    file = Path(name, "config.json")
    if not file.is_file():
        raise ValueError(
            f"hf_model_name {quoted(name)} is neither a directory with a config.json nor an "
            f"encoder whose sizes are known: {', '.join(ENCODERS)}. Nothing is fetched for a name: "
            "download the model's config.json and give its directory"
        )
    return read_architecture(str(file), read_json_object(file))
