"""Checking that the parts of a model that writes captions fit together."""

from typing import TYPE_CHECKING

from fastclip.models.towers.config_checks import require_multiple

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig


def require_writable(config: "ClipConfig") -> None:
    """Raise a ValueError unless the pooler, text tower and decoder in `config` fit together.

    A configuration without CoCa's parts passes.
    """
    vision, text, decoder = config.vision_cfg, config.text_cfg, config.multimodal_cfg
    if getattr(vision, "attentional_pool", False):
        require_multiple(
            "embed_dim", config.embed_dim, "attn_pooler_heads", vision.attn_pooler_heads
        )
    if getattr(text, "embed_cls", False) and not config.custom_text:
        raise ValueError(
            "text_cfg: embed_cls needs custom_text to be true (the text tower's keys under `text.`)"
        )
    if decoder is None:
        return
    if not config.custom_text:
        raise ValueError(
            "multimodal_cfg needs custom_text to be true (the text tower's keys under `text.`)"
        )
    if text.stands_alone and text.decoder_vocabulary is None:
        raise ValueError(
            f"text_cfg: a {text.kind} cannot be the text tower of a CoCa model: it is not known "
            "which of its tokens the decoder should read, and which vocabulary it should write"
        )
    if vision.tokens_may_be_padding:
        raise ValueError(
            f"vision_cfg: a {vision.kind} cannot be the image tower of a CoCa model: the decoder "
            "reads all tokens of the tower, and would read the padding of a batch as part of an "
            "image"
        )
    if getattr(text, "hf_pooler_type", None) == "cls_pooler":
        raise ValueError(
            "text_cfg: hf_pooler_type 'cls_pooler' cannot be used in a CoCa model: the tower then "
            "returns its tokens without the first, and the decoder would get one too few"
        )
    for name, tower in (("vision", vision), ("text", text)):
        if not getattr(tower, "output_tokens", False):
            raise ValueError(
                f"{name}_cfg: output_tokens must be true with multimodal_cfg: the decoder reads "
                "the tower's tokens"
            )
    widths = {"vision": vision.token_width(config.embed_dim), "text": text.width}
    for name, width in widths.items():
        if width != decoder.width:
            raise ValueError(
                f"multimodal_cfg: width {decoder.width} must be the width of the {name} tower's "
                f"tokens, {width}"
            )
