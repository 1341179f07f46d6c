"""A trunk that timm builds, and what it says of itself.

timm computes numbers and tables while it builds, such as rates of stochastic depth and rotations of
positions. They need data, where a model is made without any: there a trunk is made on the CPU, and
only its parameters stay as they are allocated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from fastclip.data.quoting import first_line
from fastclip.installation import install_command
from fastclip.models.towers.image_config import Positions
from fastclip.models.unfilled import is_unfilled, unfilled

if TYPE_CHECKING:
    from fastclip.models.towers.timm.config import TimmConfig

LARGEST_STRETCH = 4  # of a side of the images, over that of the name


class TrunkFacts(NamedTuple):
    """What a trunk says of itself.

    Attributes:
        image_size: height and width that it is made for under its name; None if it takes any.
        grid_size: rows and columns of its last features.
        width: their channels.
        layers: steps that timm's `forward_intermediates` can return.
        num_parameters: all of them.
    """

    image_size: tuple[int, int] | None
    grid_size: tuple[int, int]
    width: int
    layers: int
    num_parameters: int


def import_timm() -> Any:
    """
    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ImportError(
            f"An image tower of timm needs timm: {install_command('timm')}", name="timm"
        ) from error
    return timm


def make_trunk(
    config: "TimmConfig",
    embed_dim: int,
    pretrained: bool = False,
    cache_dir: str | PathLike | None = None,
) -> nn.Module:
    """The trunk of a configuration, for images of its size, in training mode.

    Args:
        embed_dim: what its own classifier projects to, where that is the projection.
        pretrained: with the weights that timm publishes under the name, which it fetches.
        cache_dir: where timm keeps them.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no model of that name, or it has no such setting.
    """
    timm = import_timm()
    name, pool = config.timm_model_name, config.timm_pool
    if not timm.is_model(name):
        raise ValueError(f"timm {timm.__version__} has no model {name!r}: see timm.list_models()")
    settings: dict[str, Any] = {"drop_path_rate": config.timm_drop_path}
    settings["patch_drop_rate"] = config.patch_dropout or None
    if cache_dir is not None:
        settings["cache_dir"] = cache_dir
    has_head = config.timm_proj in ("linear", "mlp")
    if not has_head:
        num_classes = 0 if config.timm_proj == "none" else embed_dim
        settings |= {"num_classes": num_classes, "global_pool": pool}
    fake = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    try:
        with _with_tables(fake):
            trunk = timm.create_model(name, pretrained=pretrained, **settings)
            if has_head:
                trunk.reset_classifier(0, **({"global_pool": pool} if pool else {}))
            if (own := own_size(trunk)) not in (None, config.image_size):
                _require_bounded(config, own)
                trunk.set_input_size(config.image_size)
    except (TypeError, AssertionError, NotImplementedError) as error:
        told = ", ".join(f"{key} {value!r}" for key, value in config.to_json(False).items())
        raise ValueError(f"timm builds no such tower ({told}): {first_line(error)}") from error
    if fake is not None:
        _become_fake(trunk, fake)
    return trunk


def _require_bounded(config: "TimmConfig", own: tuple[int, int]) -> None:
    # Tables of a trunk may have an entry for every two places, and are computed as it is built.
    if any(
        side > LARGEST_STRETCH * most for side, most in zip(config.image_size, own, strict=True)
    ):
        raise ValueError(
            f"image_size {config.image_size} is more than {LARGEST_STRETCH} times the {own} that "
            f"timm's {config.timm_model_name} is made for"
        )


def own_size(trunk: nn.Module) -> tuple[int, int] | None:
    """Height and width that a trunk is made for; None if it takes images of any size."""
    if not hasattr(trunk, "set_input_size"):
        return None
    size = getattr(getattr(trunk, "patch_embed", None), "img_size", None)
    return tuple(size or trunk.default_cfg["input_size"][-2:])


def grid_of(trunk: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the last features.

    Raises:
        ValueError: the trunk makes a map, and a side is no multiple of what it divides by.
    """
    info = trunk.feature_info
    last = (info if isinstance(info, list) else info.info)[-1]
    reduction = int(last["reduction"])
    has_map = own_size(trunk) is None
    if has_map and any(side % reduction for side in image_size):
        raise ValueError(
            f"image_size {image_size} is not a multiple of {reduction}, what "
            f"{type(trunk).__name__} divides it by"
        )
    return image_size[0] // reduction, image_size[1] // reduction


def learned_positions(trunk: nn.Module, grid_size: tuple[int, int]) -> Positions | None:
    """Where a trunk keeps a learned embedding per place of its grid, if it does."""
    table = getattr(trunk, "pos_embed", None)
    if not isinstance(table, Tensor) or table.ndim != 3:
        return None
    num_before = table.shape[1] - grid_size[0] * grid_size[1]
    fits = num_before in (0, getattr(trunk, "num_prefix_tokens", 0))
    return Positions("trunk.pos_embed", num_before) if fits else None


def width_of(trunk: nn.Module) -> int:
    """Channels of what a trunk without classifier returns."""
    return getattr(trunk, "head_hidden_size", None) or trunk.num_features


@lru_cache(maxsize=128)
def facts_of(config: "TimmConfig") -> TrunkFacts:
    """What the trunk of a configuration says, of one whose parameters are never written."""
    with unfilled():
        trunk = make_trunk(config, embed_dim=1)
    info = trunk.feature_info
    default = import_timm().models.get_pretrained_cfg(config.timm_model_name)
    return TrunkFacts(
        image_size=None if own_size(trunk) is None else tuple(default.input_size[-2:]),
        grid_size=grid_of(trunk, config.image_size),
        width=trunk.num_features,
        layers=len(info if isinstance(info, list) else info.info),
        num_parameters=sum(p.numel() for p in trunk.parameters()),
    )


@contextmanager
def _with_tables(fake: FakeTensorMode | None) -> Iterator[None]:
    """In this context timm's modules are made with their tables, whatever is around it.

    Where modules are made for a file to fill, or on tensors that only stand for others, parameters
    are allocated on the CPU and not written, which takes no memory.
    """
    if fake is None and not is_unfilled():
        yield
        return
    with unset_fake_temporarily(), _UnwrittenParameters():
        yield


class _UnwrittenParameters(TorchFunctionMode):
    """On the CPU, whatever the modes around it say; what would write into a parameter does not."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        is_in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        written = args[0] if args else kwargs.get("tensor")  # as torch.nn.init names it
        if is_in_place and isinstance(written, nn.Parameter):
            return written
        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)


def _become_fake(trunk: nn.Module, fake: FakeTensorMode) -> None:
    for module in trunk.modules():
        for tensors in (module._parameters, module._buffers):
            for name, value in tensors.items():
                if value is not None:
                    tensors[name] = fake.from_tensor(value)
