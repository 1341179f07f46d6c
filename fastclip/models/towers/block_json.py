"""Translation between open_clip's JSON fields and a configuration of transformer blocks.

open_clip has one `quick_gelu` for a whole model, and `act_kwargs` and `norm_kwargs` for each tower;
a tower here has `activation` and `norm_eps`. An activation that open_clip's fields cannot express
is written as `activation`.
"""

from dataclasses import MISSING, asdict, fields
from typing import Any

from fastclip.data.quoting import quoted


def blocks_from_json(where: str, values: dict[str, Any], quick_gelu: bool) -> dict[str, Any]:
    """Return the keyword arguments of a tower's dataclass that open_clip's fields correspond to.

    Args:
        where: the name of the JSON object in an error.
        values: the fields of the object.
        quick_gelu: the model's `quick_gelu`.

    Raises:
        ValueError: `act_kwargs` or `norm_kwargs` have a value that is not supported.
    """
    values = dict(values)
    arguments = {"activation": "quick_gelu" if quick_gelu else "gelu"}
    act_kwargs = values.pop("act_kwargs", None)
    if act_kwargs == {"approximate": "tanh"} and not quick_gelu:
        arguments["activation"] = "gelu_tanh"
    elif act_kwargs:
        raise ValueError(
            f"{where}: act_kwargs {quoted(act_kwargs)} is not supported: fastclip reads "
            "{'approximate': 'tanh'}, in a model without quick_gelu"
        )
    norm_kwargs = dict(values.pop("norm_kwargs", None) or {})
    if "eps" in norm_kwargs:
        arguments["norm_eps"] = norm_kwargs.pop("eps")
    if norm_kwargs:
        raise ValueError(
            f"{where}: norm_kwargs {quoted(norm_kwargs)} is not supported: fastclip reads only eps"
        )
    return arguments | values


def blocks_to_json(config: Any, quick_gelu: bool) -> dict[str, Any]:
    """Return open_clip's fields of a tower, without values that are the dataclass's defaults."""
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
    """Return the default of each field of a dataclass that has one."""
    values = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
    made = {f.name: f.default_factory() for f in fields(cls) if f.default_factory is not MISSING}
    return values | made
