"""Which losses look at which settings; the other losses refuse them."""

from fastclip.train.settings.loss_config import CLIP, DCL, QUEUE, SIGLIP, SOGCLR

# Settings of `RunConfig`, each with the losses that it has an effect on.
LOSSES_OF_OPTION = {
    "label_smoothing": (CLIP,),
    "margin": (CLIP,),
    "queue_size": (QUEUE,),
    "dcl_sigma": (DCL,),
    "sogclr_gamma": (SOGCLR,),
    "sogclr_rho": (SOGCLR,),
    "loss_schedule": (CLIP, SIGLIP),
}
