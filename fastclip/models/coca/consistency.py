"""Whether the parts of a model that writes captions fit together."""

from typing import TYPE_CHECKING

from fastclip.models.towers.config_checks import require_multiple

if TYPE_CHECKING:
    from fastclip.models.clip_config import ClipConfig


def require_writable(config: "ClipConfig") -> None:
    """Raise a ValueError unless pooler, text tower and decoder of a configuration fit together.

    A configuration with none of them passes.
    """
    vision, text, decoder = config.vision_cfg, config.text_cfg, config.multimodal_cfg
    if getattr(vision, "attentional_pool", False):
        require_multiple(
            "embed_dim", config.embed_dim, "attn_pooler_heads", vision.attn_pooler_heads
        )
    if getattr(text, "embed_cls", False) and not config.custom_text:
        raise ValueError("text_cfg: embed_cls needs custom_text, a text tower under text.")
    if decoder is None:
        return
    if not config.custom_text:
        raise ValueError("multimodal_cfg needs custom_text, a text tower under text.")
    if text.stands_alone and text.decoder_vocabulary is None:
        raise ValueError(
            f"text_cfg: a {text.kind} cannot be that of a CoCa model: what its decoder would read "
            "of it, and with which vocabulary it would write, is not known to be right"
        )
    if vision.tokens_may_be_padding:
        raise ValueError(
            f"vision_cfg: a {vision.kind} cannot be that of a CoCa model: the decoder reads all "
            "tokens of the image tower, and would read the padding of a batch as part of the image"
        )
    if getattr(text, "hf_pooler_type", None) == "cls_pooler":
        raise ValueError(
            "text_cfg: hf_pooler_type 'cls_pooler' cannot be that of a CoCa model: the tower's "
            "tokens lack the first, so that the decoder would be asked for one too few"
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
                f"multimodal_cfg: width {decoder.width} must be that of the {name} tower's "
                f"tokens, {width}"
            )
