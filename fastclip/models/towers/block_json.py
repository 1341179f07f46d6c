"""open_clip's words for a tower of transformer blocks, as they are read and written.

Where open_clip says `quick_gelu` of a whole model, `act_kwargs` and `norm_kwargs`, a tower here has
its `activation` and its `norm_eps`. An activation that they cannot say is written as `activation`.
"""

from dataclasses import MISSING, asdict, fields
from typing import Any

from fastclip.data.quoting import quoted


def blocks_from_json(where: str, values: dict[str, Any], quick_gelu: bool) -> dict[str, Any]:
    """The keyword arguments of a tower's dataclass that open_clip's fields stand for.

    Raises:
        ValueError: `act_kwargs` or `norm_kwargs` are not supported; `where` names the object.
    """
    values = dict(values)
    arguments = {"activation": "quick_gelu" if quick_gelu else "gelu"}
    act_kwargs = values.pop("act_kwargs", None)
    if act_kwargs == {"approximate": "tanh"} and not quick_gelu:
        arguments["activation"] = "gelu_tanh"
    elif act_kwargs:
        raise ValueError(f"{where}: act_kwargs {quoted(act_kwargs)} is not supported")
    norm_kwargs = dict(values.pop("norm_kwargs", None) or {})
    if "eps" in norm_kwargs:
        arguments["norm_eps"] = norm_kwargs.pop("eps")
    if norm_kwargs:
        raise ValueError(f"{where}: norm_kwargs {quoted(norm_kwargs)} is not supported")
    return arguments | values


def blocks_to_json(config: Any, quick_gelu: bool) -> dict[str, Any]:
    """The reverse; only values that are not the defaults of the dataclass."""
    defaults = defaults_of(type(config))
    values = {k: v for k, v in asdict(config).items() if k not in defaults or v != defaults[k]}
    if (eps := values.pop("norm_eps", None)) is not None:
        values["norm_kwargs"] = {"eps": eps}
    values.pop("activation", None)
    if config.activation == "gelu_tanh" and not quick_gelu:
        values["act_kwargs"] = {"approximate": "tanh"}
    elif config.activation != ("quick_gelu" if quick_gelu else "gelu"):
        values["activation"] = config.activation
    return values


def defaults_of(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that have a default, with it."""
    values = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
    made = {f.name: f.default_factory() for f in fields(cls) if f.default_factory is not MISSING}
    return values | made
