"""Makes the loss that the arguments of open_clip's trainer ask for."""

from argparse import Namespace
from typing import Any

from fastclip.losses.clip import ClipLoss
from fastclip.losses.coca import CoCaLoss
from fastclip.losses.distill_clip import DistillClipLoss
from fastclip.losses.siglip import SigLipLoss


def create_loss(args: Namespace | Any) -> ClipLoss | SigLipLoss:
    """Return the loss for open_clip's parsed command line, like open_clip's `create_loss`.

    Args:
        args: `siglip`, `distill`, `local_loss`, `gather_with_grad`, `rank`, `world_size`, `horovod`
            and, for SigLIP, `loss_dist_impl`; for a `model` with coca in its name
            `coca_caption_loss_weight` and `coca_contrastive_loss_weight`. A missing attribute has
            open_clip's default. open_clip's trainer sets `distill`, not its parser.

    Raises:
        NotImplementedError: `distill` is set together with `siglip`, or `horovod` is set.
        ValueError: see `ClipLoss` and `SigLipLoss`.

    Example:
        >>> fastclip.create_loss(argparse.Namespace(siglip=False, rank=0, world_size=1))
        ClipLoss(backend='auto', workspace=None, schedule='gather')
    """

    def given(name: str, default: Any = False) -> Any:
        return getattr(args, name, default)

    if given("horovod"):
        raise NotImplementedError("args.horovod is not supported; use torch.distributed")
    if given("distill") and given("siglip"):
        raise NotImplementedError(
            "args.distill with args.siglip: there is no distillation of SigLIP"
        )
    ranks = {"rank": given("rank", None), "world_size": given("world_size", None)}
    settings = {
        "local_loss": given("local_loss"), "gather_with_grad": given("gather_with_grad"),
        "cache_labels": True, **ranks,
    }  # fmt: skip
    if given("distill"):
        return DistillClipLoss(**settings)
    if "coca" in (given("model") or "").lower():
        caption_weight = given("coca_caption_loss_weight", 2.0)
        return CoCaLoss(caption_weight, given("coca_contrastive_loss_weight", 1.0), **settings)
    if given("siglip"):
        return SigLipLoss(**ranks, dist_impl=given("loss_dist_impl", None))
    return ClipLoss(**settings)
