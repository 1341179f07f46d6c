"""The kinds of encoder that may be a text tower: transformers' configurations, as plain values.

A configuration comes from a name that is known here, or from a `config.json` next to weights. Each
of its fields is obeyed, or may have one value only, or cannot change an encoder's result. Any other
field raises an error that names it; so does `auto_map`, which names code to run.

Source: the configurations of transformers 5.24; the kinds are those of `hf_configs.py` in
open_clip_torch 3.3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from fastclip.data.limits import LARGEST_VOCABULARY, LONGEST_CONTEXT, MOST_LAYERS
from fastclip.data.quoting import quoted
from fastclip.models.json_fields import JsonFields
from fastclip.models.towers.config_checks import (
    require_choice,
    require_flags,
    require_multiple,
    require_sizes,
    require_token,
)

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish")
GATES = ("gated-gelu", "gated-relu", "gated-silu", "gelu", "relu", "silu")
LABEL = "It is a label."
NOT_ENCODER = "It belongs to generation or to the decoder, which a text tower does not have."
DERIVED = "It follows from feed_forward_proj."
WITHOUT_EFFECT = {
    **dict.fromkeys(
        ("_name_or_path", "architectures", "dtype", "name_or_path", "tokenizer_class",
         "torch_dtype", "transformers_version", "output_past", "finetuning_task", "id2label",
         "label2id", "num_labels", "_num_labels", "problem_type", "task_specific_params",
         "classifier_dropout", "gradient_checkpointing"), LABEL),
    **dict.fromkeys(
        ("bos_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id",
         "forced_bos_token_id", "forced_eos_token_id", "use_cache", "max_length", "num_beams",
         "early_stopping", "tie_word_embeddings", "decoder_layers", "decoder_ffn_dim",
         "decoder_attention_heads", "decoder_layerdrop", "num_decoder_layers"), NOT_ENCODER),
    "dense_act_fn": DERIVED, "is_gated_act": DERIVED,
}  # fmt: skip
ONLY = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "chunk_size_feed_forward": (0,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "pruned_heads": (None, {}),
    "return_dict": (True,),
    "torchscript": (False,),
}

_BERT = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
    "initializer_range": 0.02, "layer_norm_eps": 1e-12,
}  # fmt: skip
_BERT_NAMES = {"width": "hidden_size", "layers": "num_hidden_layers"}
_BERT_NAMES |= {"heads": "num_attention_heads", "hidden_width": "intermediate_size"}


@dataclass(frozen=True)
class Family:
    """A kind of encoder.

    Attributes:
        builder: the class of transformers that is the encoder or, for a kind with a decoder, has
            the encoder as its attribute `encoder`.
        defaults: the fields that are obeyed, with transformers' defaults.
        names: the names, among those fields, of `width`, `layers`, `heads` and `hidden_width`.
        blocks: the path of the blocks in the encoder.
        embeddings: the path of the embeddings, which come before the blocks.
        table: the name of the tensor with a row per token.
        is_encoder: whether the kind is the encoder of an encoder and a decoder.
        aliases: second names of fields, which a file may contain as well, with the same value.
        has_table: whether positions are learned, which limits the length of a text; else texts may
            have any length.
        matrices: how many matrices of (width, hidden_width) an MLP has.
    """

    builder: str
    defaults: Mapping[str, Any]
    names: Mapping[str, str]
    blocks: str
    embeddings: str
    table: str
    is_encoder: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    has_table: bool = True
    matrices: int = 2

    def read(self, where: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all fields that are obeyed, by their names in transformers.

        Args:
            where: the name of the configuration in an error.
            values: the fields of the configuration.

        Raises:
            ValueError: a field is unknown, or its value is not supported; the message names it.
        """
        values = dict(values)
        for alias, name in self.aliases.items():
            if alias in values and values.pop(alias) != values.get(name, self.defaults[name]):
                raise ValueError(f"{where}: {alias} must equal {name}, of which it is another name")
        only = ONLY | {"is_encoder_decoder": (self.is_encoder,)}
        fields = JsonFields(set(self.defaults), only, WITHOUT_EFFECT)
        read = dict(self.defaults) | fields.read(where, values)
        self._check(read)
        return read

    def _check(self, values: Mapping[str, Any]) -> None:
        require_token(pad_token_id=values["pad_token_id"])
        require_sizes(LARGEST_VOCABULARY, vocab_size=values["vocab_size"])
        require_sizes(MOST_LAYERS, **{self.names["layers"]: values[self.names["layers"]]})
        for name, value in values.items():
            if name in ("pad_token_id", "vocab_size", self.names["layers"]):
                continue
            if name == "scale_embedding":
                require_flags(scale_embedding=value)
            elif name in ("hidden_act", "activation_function"):
                require_choice(name, value, ACTIVATIONS)
            elif name == "feed_forward_proj":
                require_choice(name, value, GATES)
            elif name == "max_position_embeddings":
                require_sizes(LONGEST_CONTEXT, max_position_embeddings=value)
            elif isinstance(self.defaults[name], float):
                _require_fraction(name, value)
            else:
                require_sizes(**{name: value})
        if values["pad_token_id"] >= values["vocab_size"]:
            raise ValueError(
                f"pad_token_id must be below vocab_size {values['vocab_size']}, "
                f"got {values['pad_token_id']}"
            )
        if "d_kv" not in values:
            width, heads = self.names["width"], self.names["heads"]
            require_multiple(width, values[width], heads, values[heads])


def _require_fraction(name: str, value: float) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {quoted(value)}")


# By `model_type`.
FAMILIES = {
    "bert": Family(
        "BertModel", {"vocab_size": 30522, **_BERT, "pad_token_id": 0}, _BERT_NAMES,
        "encoder.layer", "embeddings", "embeddings.word_embeddings.weight",
    ),
    "roberta": Family(
        "RobertaModel", {"vocab_size": 50265, **_BERT, "pad_token_id": 1}, _BERT_NAMES,
        "encoder.layer", "embeddings", "embeddings.word_embeddings.weight",
    ),
    "xlm-roberta": Family(
        "XLMRobertaModel", {"vocab_size": 30522, **_BERT, "pad_token_id": 1}, _BERT_NAMES,
        "encoder.layer", "embeddings", "embeddings.word_embeddings.weight",
    ),
    "mt5": Family(
        "MT5EncoderModel",
        {
            "vocab_size": 250112, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8,
            "num_heads": 6, "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128, "dropout_rate": 0.1,
            "layer_norm_epsilon": 1e-6, "initializer_factor": 1.0,
            "feed_forward_proj": "gated-gelu", "pad_token_id": 0,
        },
        {"width": "d_model", "layers": "num_layers", "heads": "num_heads", "hidden_width": "d_ff"},
        "block", "embed_tokens", "embed_tokens.weight", is_encoder=True, has_table=False,
        matrices=3,
        aliases={
            "hidden_size": "d_model", "num_hidden_layers": "num_layers",
            "num_attention_heads": "num_heads", "head_dim": "d_kv",
        },
    ),
    "m2m_100": Family(
        "M2M100Encoder",
        {
            "vocab_size": 128112, "max_position_embeddings": 1024, "encoder_layers": 12,
            "encoder_ffn_dim": 4096, "encoder_attention_heads": 16, "encoder_layerdrop": 0.05,
            "activation_function": "relu", "d_model": 1024, "dropout": 0.1,
            "attention_dropout": 0.1, "activation_dropout": 0.0, "init_std": 0.02,
            "scale_embedding": True, "pad_token_id": 1,
        },
        {
            "width": "d_model", "layers": "encoder_layers", "heads": "encoder_attention_heads",
            "hidden_width": "encoder_ffn_dim",
        },
        "layers", "embed_tokens", "embed_tokens.weight", is_encoder=True, has_table=False,
        aliases={
            "hidden_size": "d_model", "num_hidden_layers": "encoder_layers",
            "num_attention_heads": "encoder_attention_heads",
        },
    ),
}  # fmt: skip


def read_architecture(where: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an encoder's `model_type` and all its fields from a configuration of transformers.

    Args:
        where: the name of the configuration in an error.
        values: the fields of the configuration.

    Raises:
        ValueError: the encoder is of an unknown kind, or a field is not supported; the message
            names the field.
    """
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(
            f"{where}: model_type {quoted(kind)} is not supported: it must be one of "
            f"{', '.join(FAMILIES)}"
        )
    rest = {name: value for name, value in values.items() if name != "model_type"}
    return {"model_type": kind, **FAMILIES[kind].read(where, rest)}
