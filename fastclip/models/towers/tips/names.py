"""The names of TIPS's tensors here and in the published files.

    visual.*    vision_encoder.*   except the MLPs: fc1 here, c_fc there (fc1 in some files)
    text.*      text_encoder.*

transformers reads and writes the published names, although its modules have other names.

Source: the conversion of `tipsv2` in transformers 5.24.
"""

from collections.abc import Iterator

from torch import Tensor

from fastclip.models.checkpoints.correspondence import Correspondence, same

TIPS_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2")
MLP = {False: ("mlp.fc1", "mlp.fc2"), True: ("mlp.w12", "mlp.w3")}
VISION, TEXT = "vision_encoder.", "text_encoder."
OF_MLP = {".mlp.fc1.": ".mlp.c_fc.", ".mlp.fc2.": ".mlp.c_proj."}


def block_names(layers: tuple[str, ...], has_gate: bool) -> Iterator[str]:
    """Yield the names of a vision block's tensors, without the block's prefix."""
    for layer in (*layers, *MLP[has_gate]):
        yield from (f"{layer}.weight", f"{layer}.bias")
    yield from ("ls1.gamma", "ls2.gamma")


def as_published(name: str) -> Correspondence:
    """Return the correspondence of a tensor that only has another name in the published files."""
    if name.startswith("text."):
        return same(name, TEXT + name.removeprefix("text."))
    return same(name, VISION + _of_vision(name.removeprefix("visual.")))


def published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a published file with the MLPs' names in one spelling."""
    return {
        VISION + _of_vision(name.removeprefix(VISION)) if name.startswith(VISION) else name: value
        for name, value in tensors.items()
    }


def _of_vision(name: str) -> str:
    for ours, theirs in OF_MLP.items():
        name = name.replace(ours, theirs)
    return name
