"""The configuration of a text tower that is an encoder of transformers."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from fastclip.data.limits import LONGEST_CONTEXT
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.shapes import depth_of
from fastclip.models.open_clip_fields import TEXT, json_fields, names_of
from fastclip.models.towers.config_checks import require_choice, require_flags, require_sizes
from fastclip.models.towers.hugging_face.families import FAMILIES, Family
from fastclip.models.towers.hugging_face.published import ENCODERS, architecture_of
from fastclip.models.towers.text.config import OPENAI_VOCAB_SIZE, TextConfig
from fastclip.models.towers.text_config import TextTowerConfig

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig
    from fastclip.models.towers.hugging_face.module import HfTextTower

POOLERS = ("mean_pooler", "max_pooler", "cls_pooler", "cls_last_hidden_state_pooler")
PROJECTED = {
    None: set(),
    "linear": {"text.proj.weight"},
    "mlp": {"text.proj.0.weight", "text.proj.2.weight"},
}
PROJECTIONS = tuple(PROJECTED)
OF_CLIP = "It belongs to CLIP's text tower; hf_model_name determines the sizes of this tower."


@dataclass(frozen=True)
class HfTextConfig(TextTowerConfig):
    """The configuration of a text tower that is an encoder of transformers.

    Building the tower needs the package transformers.

    Attributes:
        hf_model_name: the encoder: a name in `published.py`, or a directory with transformers'
            `config.json`.
        hf_config: the encoder in transformers' fields: `model_type` and the fields of
            `families.py`. By default, `hf_model_name` determines them.
        hf_pooler_type: how tokens become one vector: "mean_pooler" takes the mean and "max_pooler"
            the maximum of the tokens that are not padding; "cls_pooler" takes the first token,
            after the encoder's own pooler where its kind has one; "cls_last_hidden_state_pooler"
            takes the first token as it is.
        hf_proj_type: how that vector is projected: "mlp" by two linear layers with GELU between
            them, whose hidden width is the mean of both widths; "linear" by one linear layer; None
            for features as wide as the encoder. No layer has a bias.
        context_length: tokens of a text, as the tokenizer makes them.

    Raises:
        ValueError: a value is out of its range, or the encoder is not known; see `architecture_of`.

    Example:
        >>> config = HfTextConfig("xlm-roberta-base", hf_proj_type="linear")
        >>> config.width, config.layers, config.vocab_size
        (768, 12, 250002)
    """

    kind: ClassVar = "Hugging Face text tower"
    is_published_alone: ClassVar = True
    decoder_vocabulary: ClassVar = OPENAI_VOCAB_SIZE

    hf_model_name: str
    hf_config: Mapping[str, Any] = field(default_factory=dict)
    context_length: int = 77
    hf_tokenizer_name: str | None = None
    tokenizer_kwargs: Mapping[str, Any] = field(default_factory=dict)
    hf_pooler_type: str = "mean_pooler"
    hf_proj_type: str | None = "mlp"
    output_tokens: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.hf_model_name, str) or not self.hf_model_name:
            raise ValueError(
                f"hf_model_name must be the name of an encoder or a directory, got "
                f"{quoted(self.hf_model_name)}"
            )
        require_sizes(LONGEST_CONTEXT, context_length=self.context_length)
        require_choice("hf_pooler_type", self.hf_pooler_type, POOLERS)
        require_choice("hf_proj_type", self.hf_proj_type, PROJECTIONS)
        require_flags(output_tokens=self.output_tokens)
        if not isinstance(self.hf_tokenizer_name, (str, type(None))):
            raise ValueError(
                "hf_tokenizer_name must be a name or left out, got "
                f"{quoted(self.hf_tokenizer_name)}"
            )
        for name in ("tokenizer_kwargs", "hf_config"):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                raise ValueError(f"{name} must be a mapping of settings, got {quoted(value)}")
        encoder = architecture_of(self.hf_model_name, self.hf_config)
        object.__setattr__(self, "hf_config", encoder)
        if self.context_length > self.longest_text:
            raise ValueError(
                f"context_length must be at most {self.longest_text}, the number of positions of "
                f"{quoted(self.hf_model_name)}, got {self.context_length}"
            )

    @property
    def family(self) -> Family:
        return FAMILIES[self.hf_config["model_type"]]

    @property
    def width(self) -> int:
        return self._size("width")

    @property
    def layers(self) -> int:
        return self._size("layers")

    @property
    def heads(self) -> int:
        return self._size("heads")

    @property
    def vocab_size(self) -> int:
        return self.hf_config["vocab_size"]

    @property
    def pad_id(self) -> int:
        """The id of padding tokens, which no other token sees."""
        return self.hf_config["pad_token_id"]

    @property
    def longest_text(self) -> int:
        """The most tokens that a text can have."""
        if not self.family.has_table:
            return LONGEST_CONTEXT
        # RoBERTa's positions begin after the id of padding.
        is_bert = self.hf_config["model_type"] == "bert"
        unused = 0 if is_bert else self.hf_config["pad_token_id"] + 1
        return self.hf_config["max_position_embeddings"] - unused

    @property
    def has_projection(self) -> bool:
        return self.hf_proj_type is not None

    def build(self, embed_dim: int) -> "HfTextTower":
        """Build the tower; see `TextTowerConfig.build`.

        Raises:
            ModuleNotFoundError: transformers is not installed.
        """
        from fastclip.models.towers.hugging_face.module import HfTextTower

        return HfTextTower(self, embed_dim)

    def load_published(self, tower: nn.Module, cache_dir: str | PathLike | None = None) -> None:
        from fastclip.models.towers.hugging_face.weights import load_encoder

        load_encoder(tower.transformer, self.hf_model_name, cache_dir)

    @classmethod
    def presets(cls) -> dict[str, "ClipConfig"]:
        from fastclip.models.towers.hugging_face.presets import presets

        return presets()

    def num_matrix_parameters(self) -> int:
        inner = self.hf_config.get("d_kv", self.width // self.heads) * self.heads
        of_mlp = self.family.matrices * self.width * self._size("hidden_width")
        of_blocks = self.layers * (4 * self.width * inner + of_mlp)
        return self.vocab_size * self.width + of_blocks

    @classmethod
    def is_told_by(cls, values: Mapping[str, Any]) -> bool:
        return bool(values.get("hf_model_name"))

    @classmethod
    def from_json(cls, values: dict[str, Any], quick_gelu: bool) -> "HfTextConfig":
        values = HF_TEXT_FIELDS.read("text_cfg", values)
        for name in ("tokenizer_kwargs", "hf_config"):
            if values.get(name) is None:
                values.pop(name, None)
        return cls(**values)

    def to_json(self, quick_gelu: bool) -> dict[str, Any]:
        default = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        values = {k: v for k, v in asdict(self).items() if k not in default or v != default[k]}
        if not values["tokenizer_kwargs"]:
            del values["tokenizer_kwargs"]
        if values["hf_config"] == ENCODERS.get(self.hf_model_name):
            del values["hf_config"]
        return values

    def is_portable(self) -> bool:
        """Return True: open_clip reads the encoder's name, and files store its sizes elsewhere."""
        return True

    @classmethod
    def has_weights_in(cls, tensors: Mapping[str, Tensor]) -> bool:
        tables = {f"text.transformer.{family.table}" for family in FAMILIES.values()}
        return not tables.isdisjoint(tensors)

    @classmethod
    def of_weights(cls, tensors: Mapping[str, Tensor], activation: str) -> "HfTextConfig":
        for config in cls.presets().values():
            if isinstance(config.text_cfg, HfTextConfig) and config.text_cfg._fits(tensors):
                return config.text_cfg
        raise CheckpointError(
            "the text tower is an encoder of transformers that no published model has, or its "
            "tokens are projected in another way: give the name or the configuration of the model"
        )

    def with_heads(self, heads: int) -> "HfTextConfig":
        """Return the tower itself, whose number of heads its encoder determines.

        Raises:
            CheckpointError: `heads` is not the encoder's number of heads.
        """
        if heads != self.heads:
            raise CheckpointError(
                f"the heads of the text tower must be {self.heads}, as in {self.hf_model_name}, "
                f"got {heads}"
            )
        return self

    def _fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether the tensors' names and shapes are this tower's."""
        table = tensors.get(f"text.transformer.{self.family.table}")
        if table is None or tuple(table.shape) != (self.vocab_size, self.width):
            return False
        blocks = f"text.transformer.{self.family.blocks}."
        if not any(name.startswith(blocks) for name in tensors):
            return False
        projection = {name for name in tensors if name.startswith("text.proj.")}
        is_projected_so = projection == PROJECTED[self.hf_proj_type]
        return is_projected_so and depth_of(tensors, blocks) == self.layers

    def shape(self) -> tuple:
        return HfTextConfig, tuple(self.hf_config.items()), self.hf_proj_type, self.hf_pooler_type

    def _size(self, name: str) -> int:
        return self.hf_config[self.family.names[name]]


HF_TEXT_FIELDS = json_fields(
    names_of(HfTextConfig),
    {"tokenizer_mode": TEXT["tokenizer_mode"]},
    {
        **dict.fromkeys({*names_of(TextConfig), *TEXT, "pad_id"}
                        - names_of(HfTextConfig) - {"tokenizer_mode"}, OF_CLIP),
        "hf_model_pretrained": "The argument pretrained_text of create_model decides it.",
    },
)  # fmt: skip
