"""What every pair of towers has: a shared space, a learned scale, one way to be called.

    similarity   cosine of image and text features
    logits       exp(logit_scale) * similarity + logit_bias

`logit_scale` is learned as a logarithm and kept within [0, ln 100]; `logit_bias` is SigLIP's.

Source: Radford et al. 2021, arXiv:2103.00020, section 2.3 and Figure 3; Zhai et al. 2023,
arXiv:2303.15343, section 3.2.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.models.parts.layers import Indices, Intermediates

MAX_LOGIT_SCALE = 100.0
Images = Tensor | Mapping[str, Tensor]  # of one size, or patches of images of different sizes
TowerOutput = Tensor | tuple[Tensor, Tensor]  # features, or features and tokens


class ContrastiveModel(nn.Module):
    """Base of the pairs of towers; a subclass has `visual` and says how text is encoded.

    Attributes:
        logit_scale: () parameter, natural logarithm of the scale; (1,) if it is nonscalar.
        logit_bias: parameter of the same shape, or None.
        output_dict: whether `forward` returns a dict instead of a tuple.
    """

    visual: nn.Module
    output_dict: bool

    def _add_scale(
        self,
        init_logit_scale: float,
        init_logit_bias: float | None,
        output_dict: bool,
        nonscalar: bool = False,
    ) -> None:
        self.output_dict = output_dict
        shape = (1,) if nonscalar else ()
        self.logit_scale = nn.Parameter(torch.full(shape, float(init_logit_scale)))
        self.logit_bias = (
            None
            if init_logit_bias is None
            else nn.Parameter(torch.full(shape, float(init_logit_bias)))
        )

    def _image_features(self, image: Images) -> TowerOutput:
        return self.visual(image)

    def _text_features(self, text: Tensor) -> TowerOutput:
        raise NotImplementedError

    def encode_image(self, image: Images, normalize: bool = False) -> TowerOutput:
        """Return (B, embed_dim) features of (B, channels, height, width) floating-point images.

        Args:
            image: the images; of a NaFlex model also a batch of patches, see `collate_patches`.
            normalize: unit rows.

        Returns:
            the features or, where `visual.output_tokens` is set, the features and the tokens.
        """
        return _normalized(self._image_features(image), normalize)

    def encode_text(self, text: Tensor, normalize: bool = False) -> TowerOutput:
        """Return (B, embed_dim) features of (B, T) int64 tokens.

        Args:
            normalize: unit rows.

        Returns:
            the features or, where the text tower's `output_tokens` is set, features and tokens.
        """
        return _normalized(self._text_features(text), normalize)

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, C) logits of B images and C texts, and their transpose.

        For inference: a loss over a large batch takes features, and never forms the logits.
        """
        image_features = _features(self.encode_image(image, normalize=True))
        text_features = _features(self.encode_text(text, normalize=True))
        return self._logits(image_features, text_features)

    def _logits(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logit_scale.exp().to(image_features.dtype) * image_features @ text_features.T
        if self.logit_bias is not None:
            logits = logits + self.logit_bias
        return logits, logits.T

    def forward(
        self, image: Images | None = None, text: Tensor | None = None
    ) -> tuple[Tensor | None, ...] | dict[str, Tensor | None]:
        """Return what `ClipLoss` and `SigLipLoss` take.

        Args:
            image: (B, channels, height, width) images, see `encode_image`, or None.
            text: (B, T) tokens, or None.

        Returns:
            (B, embed_dim) unit image features, the same of the texts, the () scale and, in a model
            that has one, the () bias; under the names `image_features`, `text_features`,
            `logit_scale` and `logit_bias` if `output_dict`. A loss takes no tokens, so that
            `output_tokens` changes nothing here.
        """
        image_output = None if image is None else self.encode_image(image, normalize=True)
        text_output = None if text is None else self.encode_text(text, normalize=True)
        outputs = {
            "image_features": _features(image_output),
            "text_features": _features(text_output),
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            outputs["logit_bias"] = self.logit_bias
        return outputs if self.output_dict else tuple(outputs.values())

    def forward_intermediates(
        self,
        image: Tensor | None = None,
        text: Tensor | None = None,
        image_indices: Indices = None,
        text_indices: Indices = None,
        stop_early: bool = False,
        normalize: bool = True,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        image_output_fmt: str = "NCHW",
        image_output_extra_tokens: bool = False,
        text_output_fmt: str = "NLC",
        text_output_extra_tokens: bool = False,
        output_logits: bool = False,
        output_logit_scale_bias: bool = False,
    ) -> Intermediates:
        """Return what layers of the towers make of images and texts, as open_clip's method.

        Args:
            image: (B, channels, height, width) images, or None.
            text: (B, T) tokens, or None.
            image_indices, text_indices: a number n for the last n layers of a tower, or the numbers
                of layers, counted from 0 or, if negative, from the end; None for all.
            stop_early: leave out the layers behind the last that is asked for. Features of images,
                and of texts in a `CustomTextCLIP`, are then read out of that layer.
            normalize: features are unit rows.
            normalize_intermediates: put intermediates through the tower's last normalisation.
            intermediates_only: return no features.
            image_output_fmt: "NCHW" for maps, "NLC" for tokens.
            image_output_extra_tokens: return also the tokens that are of no patch.
            text_output_fmt: "NLC".
            text_output_extra_tokens: return also the tokens that are of no text, if there are any.
            output_logits: return also the logits of these features: unit rows if `normalize`.
            output_logit_scale_bias: return also the scale and, if the model has one, the bias.

        Returns:
            a dict of what `forward_intermediates` of the image tower and of the text tower return
            (`image_features`, `image_intermediates`, `image_intermediates_prefix`, `text_features`,
            `text_intermediates`), and of `image_logits` (B, C), `text_logits` (C, B), `logit_scale`
            and `logit_bias` where they are asked for.

        Raises:
            ValueError: logits are asked for without images, texts or features; see also
                `forward_intermediates` of `ImageTower` and of the text tower.
            TypeError: a tower has no such method.

        Example:
            found = model.forward_intermediates(images, image_indices=[-2], intermediates_only=True)
            (last_but_one,) = found["image_intermediates"]  # (B, width, rows, columns)
        """
        if output_logits and (image is None or text is None or intermediates_only):
            raise ValueError("output_logits needs image and text, and intermediates_only=False")
        common: dict[str, Any] = dict(
            stop_early=stop_early, normalize_intermediates=normalize_intermediates,
            intermediates_only=intermediates_only,
        )  # fmt: skip
        output: Intermediates = {}
        if image is not None:
            output |= intermediates_of(
                self.visual, image, indices=image_indices, output_fmt=image_output_fmt,
                output_extra_tokens=image_output_extra_tokens, **common,
            )  # fmt: skip
        if text is not None:
            output |= self._text_intermediates(
                text, indices=text_indices, output_fmt=text_output_fmt,
                output_extra_tokens=text_output_extra_tokens, **common,
            )  # fmt: skip
        if normalize:
            for name in {"image_features", "text_features"} & output.keys():
                output[name] = F.normalize(output[name], dim=-1)
        if output_logits:
            logits = self._logits(output["image_features"], output["text_features"])
            output["image_logits"], output["text_logits"] = logits
        if output_logit_scale_bias:
            output["logit_scale"] = self.logit_scale.exp()
            if self.logit_bias is not None:
                output["logit_bias"] = self.logit_bias
        return output

    def _text_intermediates(self, text: Tensor, **settings: Any) -> Intermediates:
        raise NotImplementedError

    def lock_image_tower(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the image tower but for its last `unlocked_groups` layers; see its `groups`."""
        self.visual.lock(unlocked_groups=unlocked_groups, freeze_bn_stats=freeze_bn_stats)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Bring the scale back into [1, 100]; to be called after each optimiser step."""
        self.logit_scale.clamp_(0.0, math.log(MAX_LOGIT_SCALE))


def intermediates_of(tower: nn.Module, batch: Tensor, **settings: Any) -> Intermediates:
    """What a tower's `forward_intermediates` returns.

    Raises:
        TypeError: it has none.
    """
    method = getattr(tower, "forward_intermediates", None)
    if method is None:
        raise TypeError(
            f"{type(tower).__name__} has no forward_intermediates: forward hooks on its layers see "
            "what they return"
        )
    return method(batch, **settings)


def _features(output: TowerOutput | None) -> Tensor | None:
    return output[0] if isinstance(output, tuple) else output


def _normalized(output: TowerOutput, normalize: bool) -> TowerOutput:
    if not normalize:
        return output
    features = F.normalize(_features(output), dim=-1)
    return (features, *output[1:]) if isinstance(output, tuple) else features
