"""The settings of modules: everything besides their parameters that affects their results."""

from typing import Any

from torch import nn

PLAIN = (bool, int, float, str, tuple, list, type(None))
# Parts of names of attributes that change no result: a source of weights, how a backward runs.
IRRELEVANT = ("training", "name_or_path", "checkpointing", "warnings_issued", "fused_attn")


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Return the settings of a module, without the settings of the modules in it.

    Returns:
        The module's public attributes with plain values, by name; "repr", its `extra_repr`; and
        "hooks", the number of its hooks that transformers did not register.
    """
    plain = {
        name: value
        for name, value in module.__dict__.items()
        if isinstance(value, PLAIN)
        and not name.startswith("_")
        and not any(word in name for word in IRRELEVANT)
    }
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    # transformers registers a hook of its own for activation checkpointing.
    foreign = [hook for hook in hooks if not hook.__module__.startswith("transformers.")]
    return {**plain, "repr": module.extra_repr(), "hooks": len(foreign)}
