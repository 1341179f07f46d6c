"""Small encoders of transformers as text towers, and open_clip's own tower of each."""

import json

import torch

from fastclip.models.towers.hugging_face.config import HfTextConfig
from tests.support.peers import open_clip

BERT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "vocab_size": 60, "max_position_embeddings": 20, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
}  # fmt: skip
ENCODERS = {
    "bert": {"model_type": "bert", **BERT, "type_vocab_size": 2},
    "roberta": {"model_type": "roberta", **BERT},
    "xlm-roberta": {"model_type": "xlm-roberta", **BERT},
    "mt5": {
        "model_type": "mt5", "vocab_size": 60, "d_model": 32, "d_kv": 12, "d_ff": 48,
        "num_layers": 2, "num_heads": 2,
    },
    "m2m_100": {
        "model_type": "m2m_100", "vocab_size": 60, "d_model": 32, "encoder_layers": 2,
        "encoder_ffn_dim": 48, "encoder_attention_heads": 2, "max_position_embeddings": 20,
        "decoder_layers": 1, "decoder_attention_heads": 2, "encoder_layerdrop": 0,
    },
}  # fmt: skip


def folder_of(kind: str, place) -> str:
    """A directory with the `config.json` of a small encoder."""
    path = place / kind
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(ENCODERS[kind]))
    return str(path)


def hf_text(kind: str, place, **settings) -> HfTextConfig:
    return HfTextConfig(folder_of(kind, place), context_length=12, **settings)


def open_clips(config: HfTextConfig, embed_dim: int) -> torch.nn.Module:
    """open_clip's tower with random weights, in evaluation mode."""
    return open_clip.hf_model.HFTextEncoder(
        config.hf_model_name, embed_dim, pooler_type=config.hf_pooler_type,
        proj_type=config.hf_proj_type, pretrained=False, output_tokens=config.output_tokens,
    ).eval()  # fmt: skip


def texts(config: HfTextConfig, T: int = 12) -> torch.Tensor:
    """(4, T) tokens with padding behind their ends, of which one has none."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, config.vocab_size, (4, T), generator=generator)
    for row, length in enumerate((5, 1, 9, T)):
        tokens[row, length:] = config.hf_config["pad_token_id"]
    return tokens
