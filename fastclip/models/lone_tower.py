"""Keeping only one tower of a model, so that the other one takes no memory."""

from typing import NoReturn

from torch import nn

from fastclip.models.contrastive_model import ContrastiveModel

TOWERS = ("image", "text")


class LeftOut(nn.Module):
    """Stands for a tower, or for a part of one, that was left out.

    Args:
        tower: "image" or "text".
    """

    def __init__(self, tower: str) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *inputs: object, **named: object) -> NoReturn:
        """Raise, because there is no tower to compute with.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"the {self.tower} tower of this model was left out when it was opened: open it "
            "without only="
        )

    forward_intermediates = forward


def keep_only(model: ContrastiveModel, tower: str) -> None:
    """Keep only the tower `tower`, "image" or "text", of a model, and remove the other, in place.

    The scale and the bias stay. A call that needs the removed tower raises ValueError.

    Example:
        >>> model = create_model("ViT-B-32")
        >>> keep_only(model, "text")
        >>> model.encode_text(tokenize("a dog")).shape
        torch.Size([1, 512])
    """
    if hasattr(model, "text_decoder"):  # a decoder of captions needs both towers
        model.text_decoder = LeftOut("image" if tower == "text" else "text")
    if tower == "text":
        model.visual = LeftOut("image")
    elif hasattr(model, "text"):
        model.text = LeftOut("text")
    else:
        # The text tower of `CLIP` has all parameters besides the image tower, the scale and bias.
        parts = [*model.named_children(), *model.named_parameters(recurse=False)]
        for name, _ in parts:
            if name != "visual" and not name.startswith("logit_"):
                delattr(model, name)
        model._text_features = model._text_intermediates = LeftOut("text").forward
