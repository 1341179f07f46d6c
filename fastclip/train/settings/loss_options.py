"""Says which losses use which settings; the other losses refuse them."""

from fastclip.train.settings.loss_config import (
    CLIP,
    DCL,
    INFOLOOB,
    LOSSES,
    QUEUE,
    SIGLIP,
    SOGCLR,
)

DISTILLED = "distilled"  # the loss of CLIP with teachers

# Settings of `RunConfig`, each with the losses that it affects.
LOSSES_OF_OPTION = {
    "label_smoothing": (CLIP,),
    "margin": (CLIP,),
    "mask_duplicates": (CLIP, SIGLIP, QUEUE, DCL, INFOLOOB, SOGCLR, DISTILLED),
    "queue_size": (QUEUE,),
    "queue_momentum": (QUEUE,),
    "dcl_sigma": (DCL,),
    "sogclr_gamma": (SOGCLR,),
    "sogclr_rho": (SOGCLR,),
    "distill_model": (DISTILLED,),
    "distill_pretrained": (DISTILLED,),
    "distill_embeddings": (DISTILLED,),
    "distill_logit_scale": (DISTILLED,),
    "matryoshka_dims": (CLIP,),
    "matryoshka_weights": (CLIP,),
    "coca_caption_loss_weight": (CLIP,),
    "coca_contrastive_loss_weight": (CLIP,),
}


def is_obeyed(name: str, loss: str) -> bool:
    """Return whether a setting affects a loss, which is one of `LOSSES` or `DISTILLED`."""
    return loss in LOSSES_OF_OPTION.get(name, (*LOSSES, DISTILLED))
