"""The text towers of SigLIP's models: settings that shapes do not show, and their tokenizers."""

from typing import Any

VOCABULARIES = {"english": 32000, "i18n": 250000, "gemma": 256000}
TOKENIZERS = {
    "english": "timm/ViT-B-16-SigLIP",
    "i18n": "timm/ViT-B-16-SigLIP-i18n-256",
    "gemma": "timm/ViT-B-16-SigLIP2",
}


def siglip_text(vocab_size: int, has_projection: bool = True) -> dict[str, Any]:
    """Return the fields of `TextConfig` that all of SigLIP's text towers have in common."""
    return dict(
        no_causal_mask=True,
        pool_type="last",
        norm_eps=1e-6,
        proj_bias=has_projection,
        proj_type="linear" if has_projection else "none",
        hf_tokenizer_name=siglip_tokenizer_of(vocab_size),
        tokenizer_kwargs={"clean": "canonicalize"},
    )


def siglip_tokenizer_of(vocab_size: int) -> str | None:
    """Return the Hugging Face name of SigLIP's tokenizer with `vocab_size` tokens, or None."""
    for vocabulary, size in VOCABULARIES.items():
        if size == vocab_size:
            return TOKENIZERS[vocabulary]
    return None
