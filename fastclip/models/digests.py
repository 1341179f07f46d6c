"""Digests that identify a model: of its weights, configuration, preprocessing and tokenizer.

Two models with the same four digests have the same features, up to the rounding of the machine that
computes them. Names and locations of files do not affect a digest.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from fastclip.models.clip_config import ClipConfig
from fastclip.models.module_settings import settings_of
from fastclip.models.towers.block_json import defaults_of

# Texts that distinguish vocabularies and their treatment of letters, spaces and lengths.
PROBE = (
    "a photo of a cat.", "A Photo of the small  CAT!", "zero one two three four five six seven",
    "naïve café, Übergröße", "東京の夜景 и Москва", "a b c d e f g h i j k l m n o p q r s",
    "3.14159 x 2,718 = 8.5397...", "<start> &amp; <end>", "",
)  # fmt: skip
# Fields of configurations that change no features, or only what the other digests cover already.
IRRELEVANT = {
    "custom_text", "init_logit_bias", "init_logit_scale", "ls_init_value", "mlp_ratio",
    "nonscalar_logit_scale",
    "hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs",
    "output_tokens", "patch_dropout", "timm_drop", "timm_drop_path", "drop", "drop_path",
}  # fmt: skip


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers: names, dtypes, shapes and bytes.

    Example:
        >>> weights_digest(nn.Linear(2, 2)) == weights_digest(nn.Linear(2, 2))
        False
    """
    return digest_of(dict(sorted(model.state_dict().items())))


def configuration_digest(model: nn.Module) -> str:
    """Return the SHA-256 of how a model uses its weights: activations, heads, pooling, ...

    For a built-in model it is the digest of its `config`, without the fields that matter only in
    training. For any other module it is the digest of the classes and settings of all its modules.

    Example:
        >>> one, other = create_model("ViT-B-32"), create_model("ViT-B-32-quickgelu")
        >>> configuration_digest(one) == configuration_digest(other)
        False
    """
    config = getattr(model, "config", None)
    told = _told(config) if isinstance(config, ClipConfig) else _modules(model)
    return settings_digest(told)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings as JSON; the order of their names does not matter."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def tokenizer_digest(tokenizer: Callable[[list[str]], Tensor]) -> str:
    """Return the SHA-256 of the ids that a tokenizer gives to the texts in `PROBE`.

    So the digest depends on what a tokenizer does, and not on the files that it comes from.
    """
    told = [_ids(tokenizer, text) for text in PROBE]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def digest_of(content: Any) -> str:
    """Return the SHA-256 of nested values; equal values have equal digests, on any device."""
    leaves, _ = tree_flatten_with_path(content)
    found = hashlib.sha256()
    for path, leaf in leaves:
        found.update(keystr(path).encode())
        if isinstance(leaf, Tensor):
            found.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            host = leaf.detach().cpu().contiguous()
            found.update(host.reshape(-1).view(torch.uint8).numpy())
        else:
            found.update(repr(leaf).encode())
    return found.hexdigest()


def _told(config: Any) -> dict[str, Any]:
    """Return the fields of a configuration and its towers that are not at their defaults."""
    defaults = defaults_of(type(config))
    found = {"kind": type(config).__name__}
    for name in (f.name for f in fields(config)):
        value = getattr(config, name)
        if name.endswith("_cfg") and value is not None:
            found[name] = _told(value)
        elif name not in IRRELEVANT and (name not in defaults or value != defaults[name]):
            found[name] = value
    return found


def _modules(model: nn.Module) -> dict[str, Any]:
    return {
        name: [type(module).__qualname__, _plain(settings_of(module))]
        for name, module in model.named_modules()
    }


def _plain(value: Any) -> Any:
    """Replace values that JSON does not have by their type, as their text may have an address."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, bool | int | float | str | None) else type(value).__qualname__


def _ids(tokenizer: Callable[[list[str]], Tensor], text: str) -> list[list[int]] | str:
    try:
        return tokenizer([text]).tolist()
    except ValueError:
        return "refused"  # the text is too long for a tokenizer that does not cut texts
