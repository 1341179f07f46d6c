"""fastclip: the CLIP contrastive loss and its gradients without the N x N logits."""

from fastclip.functional import ClipStats as ClipStats
from fastclip.functional import clip_loss as clip_loss
from fastclip.functional import siglip_loss as siglip_loss
from fastclip.losses.clip import ClipLoss as ClipLoss
from fastclip.losses.siglip import SigLipLoss as SigLipLoss
from fastclip.ops.dispatch import available_backends as available_backends
from fastclip.ops.dispatch import explain_backends as explain_backends

__version__ = "0.1.0"
