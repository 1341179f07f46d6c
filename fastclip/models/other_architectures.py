"""The architectures of open_clip that are not built in, each with the reason and the way around.

Source: names of open_clip_torch 3.3.0, `list_models()` (a test compares them).
"""

# Reasons by kind, with the names of each kind.
_KINDS = {
    "it is a CoCa model whose text tower is a Hugging Face model": ("coca_roberta-ViT-B-32",),
}  # fmt: skip

OTHER_ARCHITECTURES = {name: reason for reason, names in _KINDS.items() for name in names}
