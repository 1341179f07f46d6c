"""The base class of every pair of towers: a shared space, a learned scale, and how it is called.

    similarity   cosine of image and text features
    logits       exp(logit_scale) * similarity + logit_bias

`logit_scale` is learned as a logarithm and kept within [0, ln 100]; only SigLIP's models have a
`logit_bias`.

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
Images = Tensor | Mapping[str, Tensor]  # images of one size, or patches of images of any size
TowerOutput = Tensor | tuple[Tensor, Tensor]  # features, or features and tokens


class ContrastiveModel(nn.Module):
    """Base class of pairs of towers; a subclass has `visual` and implements the text side.

    Attributes:
        visual: the image tower.
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
            image: the images; for a NaFlex model also a batch of patches, see `collate_patches`.
            normalize: scale the features to unit length.

        Returns:
            The features or, if `visual.output_tokens` is set, the features and the tokens.
        """
        return _normalized(self._image_features(image), normalize)

    def encode_text(self, text: Tensor, normalize: bool = False) -> TowerOutput:
        """Return (B, embed_dim) features of (B, T) int64 tokens.

        Args:
            normalize: scale the features to unit length.

        Returns:
            The features or, if the text tower's `output_tokens` is set, features and tokens.
        """
        return _normalized(self._text_features(text), normalize)

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, C) logits of B images and C texts, and their transpose.

        This method is for inference. For training on large batches give the features to a loss,
        which never forms all logits.
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
            (B, embed_dim) unit image features, (B, embed_dim) unit text features, the () scale and,
            in a model that has one, the () bias; under the names `image_features`,
            `text_features`, `logit_scale` and `logit_bias` if `output_dict`. `output_tokens`
            changes nothing here, because a loss takes no tokens.
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
        """Return the outputs of layers of the towers, like open_clip's method of that name.

        Args:
            image: (B, channels, height, width) images, or None.
            text: (B, T) tokens, or None.
            image_indices, text_indices: a number n for the last n layers of a tower, or the numbers
                of layers, counted from 0 or, if negative, from the end; None for all.
            stop_early: skip the layers after the last one that is asked for. The features of
                images, and of texts in a `CustomTextCLIP`, are then read out of that layer.
            normalize: scale the features to unit length.
            normalize_intermediates: apply the tower's last normalisation to intermediates.
            intermediates_only: return no features.
            image_output_fmt: "NCHW" for maps, "NLC" for tokens.
            image_output_extra_tokens: also return the image tokens that belong to no patch.
            text_output_fmt: "NLC".
            text_output_extra_tokens: also return tokens that belong to no text, if there are any.
            output_logits: also return the logits of the features, normalised if `normalize`.
            output_logit_scale_bias: also return the scale and, if the model has one, the bias.

        Returns:
            A dict with the results of `forward_intermediates` of the image tower and of the text
            tower (`image_features`, `image_intermediates`, `image_intermediates_prefix`,
            `text_features`, `text_intermediates`), and with `image_logits` (B, C), `text_logits`
            (C, B), `logit_scale` and `logit_bias` if they are asked for.

        Raises:
            ValueError: logits are asked for without images, texts or features; see also
                `forward_intermediates` of `ImageTower` and of the text tower.
            TypeError: a tower has no method `forward_intermediates`.

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
        """Freeze the image tower except for its last `unlocked_groups` groups; see its `groups`."""
        self.visual.lock(unlocked_groups=unlocked_groups, freeze_bn_stats=freeze_bn_stats)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Bring the scale back into [1, 100]; call this after each step of the optimiser."""
        self.logit_scale.clamp_(0.0, math.log(MAX_LOGIT_SCALE))


def intermediates_of(tower: nn.Module, batch: Tensor, **settings: Any) -> Intermediates:
    """Return the result of a tower's `forward_intermediates`.

    Raises:
        TypeError: the tower has no such method.
    """
    method = getattr(tower, "forward_intermediates", None)
    if method is None:
        raise TypeError(
            f"{type(tower).__name__} has no forward_intermediates: register forward hooks on its "
            "layers to get their outputs"
        )
    return method(batch, **settings)


def _features(output: TowerOutput | None) -> Tensor | None:
    return output[0] if isinstance(output, tuple) else output


def _normalized(output: TowerOutput, normalize: bool) -> TowerOutput:
    if not normalize:
        return output
    features = F.normalize(_features(output), dim=-1)
    return (features, *output[1:]) if isinstance(output, tuple) else features
