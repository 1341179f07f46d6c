"""The settings of modules: what decides, beside their parameters, what they compute."""

from typing import Any

from torch import nn

PLAIN = (bool, int, float, str, tuple, list, type(None))
# What changes no result: where weights came from, and how a backward is computed.
IRRELEVANT = ("training", "name_or_path", "checkpointing", "warnings_issued", "fused_attn")


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Return the settings of a module, without those of the modules in it.

    Returns:
        Its public attributes that hold plain values, by name; "repr", what it says of itself; and
        "hooks", how many hooks of others it has.
    """
    plain = {
        name: value
        for name, value in module.__dict__.items()
        if isinstance(value, PLAIN)
        and not name.startswith("_")
        and not any(word in name for word in IRRELEVANT)
    }
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    # transformers has one of its own where activations are computed again.
    foreign = [hook for hook in hooks if not hook.__module__.startswith("transformers.")]
    return {**plain, "repr": module.extra_repr(), "hooks": len(foreign)}
