"""The names of `open_clip.loss`."""

from fastclip.compat.absent import absent
from fastclip.losses.clip import ClipLoss
from fastclip.losses.coca import CoCaLoss
from fastclip.losses.distill_clip import DistillClipLoss
from fastclip.losses.siglip import SigLipLoss

globals().update(
    absent(
        {
            "ClipLoss and SigLipLoss exchange features by themselves": (
                "gather_features",
                "neighbour_exchange",
                "neighbour_exchange_bidir",
                "neighbour_exchange_with_grad",
                "neighbour_exchange_bidir_with_grad",
                "NeighbourExchange",
                "NeighbourExchangeBidir",
            ),
        }
    )
)
