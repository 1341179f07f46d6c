"""CoCa: two towers with one shared space, and a decoder that writes captions of images.

Keys, methods and results are the same as in open_clip's class of that name.

Source: Yu et al. 2022, arXiv:2205.01917; open_clip_torch 3.3.0, `coca_model.py`.
"""

import torch.nn.functional as F
from torch import Tensor

from fastclip.models.clip_config import ClipConfig
from fastclip.models.coca.decoder import MultimodalTransformer
from fastclip.models.coca.generation import CLIP_END, CaptionWriter
from fastclip.models.coca.vocabulary import require_written
from fastclip.models.two_tower import CustomTextCLIP

CAPTIONS = ("logits", "losses", "none")


class CoCa(CaptionWriter, CustomTextCLIP):
    """A pair of encoders with a decoder of captions; its configuration has a `multimodal_cfg`.

    Attributes:
        text_decoder: see `MultimodalTransformer`.
        pad_id: the token of padding, on which no loss is computed. With an encoder of transformers
            it is the encoder's padding, where open_clip always has 0.
        context_length: the length of the longest text that the decoder reads.

    Example:
        >>> model = fastclip.create_model("coca_ViT-B-32").eval()
        >>> tokens = model.generate(images)  # (B, T) int64
    """

    writes_captions = True
    # The decoder needs texts in the order of their images: a step may not sort or cut them.
    text_lengths = None

    def __init__(self, config: ClipConfig, output_dict: bool = False) -> None:
        super().__init__(config, output_dict)
        self.num_read = config.text_cfg.vocab_size
        num_written = config.multimodal_cfg.num_written(self.num_read)
        self.text_decoder = MultimodalTransformer(config.multimodal_cfg, num_written)
        self.pad_id = getattr(config.text_cfg, "pad_id", 0)
        self.has_clip_ids = not config.text_cfg.stands_alone and num_written > CLIP_END

    @property
    def context_length(self) -> int:
        return self.text_decoder.context_length

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Save the memory of each block's activations by computing them again in the backward."""
        super().set_grad_checkpointing(enable)
        self.text_decoder.set_grad_checkpointing(enable)

    def encode_image(self, image: Tensor, normalize: bool = True) -> Tensor:
        """Return (B, embed_dim) features of (B, channels, height, width) floating-point images.

        Args:
            normalize: unit rows, which is the default here, as in open_clip.
        """
        return self._encode_image(image, normalize)[0]

    def encode_text(self, text: Tensor, normalize: bool = True) -> Tensor:
        """Return (B, embed_dim) features of (B, T) int64 tokens.

        Args:
            normalize: unit rows, which is the default here, as in open_clip.
        """
        return self._encode_text(text, normalize)[0]

    def forward(
        self,
        image: Tensor | None = None,
        text: Tensor | None = None,
        image_latent: Tensor | None = None,
        image_embs: Tensor | None = None,
        output_labels: bool = True,
        captions: str = "logits",
    ) -> dict[str, Tensor | None]:
        """Return the arguments of `CoCaLoss`, by name.

        Args:
            image: (B, channels, height, width) images; not needed if `image_latent` and
                `image_embs` are given.
            text: (B, T) tokens, or None.
            image_latent, image_embs: `image_features` and `image_embs` of an earlier call.
            output_labels: each token but the last predicts its successor, which is a label; with
                False there are logits for the last token too, and no labels.
            captions: "logits" gives open_clip's result. With "losses", the result has, instead of
                logits and labels, `caption_losses`, (B,) sums of the cross-entropies of tokens
                that are not padding, and `caption_tokens`, (B,) the numbers of these tokens; the
                logits are never held at once. "none" does not run the decoder, and allows images
                or texts alone.

        Returns:
            `image_features` and `text_features`, (B, embed_dim) unit rows, `logit_scale`, () and
            multiplicative, `logit_bias` in a model that has one, `logits`, (B, T - 1, vocab_size),
            and `labels`, (B, T - 1). Without a text, `image_features` and `image_embs`, the
            (B, S, width) tokens that the decoder reads.

        Raises:
            ValueError: there is no image, `captions` is not one of the three values, or a label is
                a token that the text tower reads and the decoder cannot write.
        """
        if captions not in CAPTIONS:
            raise ValueError(f"captions must be one of {CAPTIONS}, got {captions!r}")
        if captions == "none":
            return self._features_alone(image, text)
        if image_latent is None or image_embs is None:
            if image is None:
                raise ValueError("image is missing: the decoder reads the image tower's tokens")
            image_latent, image_embs = self._encode_image(image, normalize=True)
        if text is None:
            return {"image_features": image_latent, "image_embs": image_embs}
        text_latent, token_embs = self._encode_text(text, normalize=True)
        found = {"image_features": image_latent, "text_features": text_latent}
        labels = text[:, 1:]
        if self.text_decoder.vocab_size < self.num_read and (captions == "losses" or output_labels):
            require_written("text", labels, self.text_decoder.vocab_size, self.num_read)
        if captions == "losses":
            losses = self.text_decoder(image_embs, token_embs[:, :-1], labels, self.pad_id)
            found["caption_losses"] = losses.sum(-1)
            found["caption_tokens"] = (labels != self.pad_id).sum(-1)
        elif output_labels:
            found["logits"] = self.text_decoder(image_embs, token_embs[:, :-1])
            found["labels"] = labels
        else:
            found["logits"] = self.text_decoder(image_embs, token_embs)
        found["logit_scale"] = self.logit_scale.exp()
        if self.logit_bias is not None:
            found["logit_bias"] = self.logit_bias
        return found

    def _features_alone(
        self, image: Tensor | None, text: Tensor | None
    ) -> dict[str, Tensor | None]:
        found = {
            "image_features": None if image is None else self.encode_image(image),
            "text_features": None if text is None else self.encode_text(text),
            "logit_scale": self.logit_scale.exp(),
        }
        return found if self.logit_bias is None else found | {"logit_bias": self.logit_bias}

    def _encode_image(self, image: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
        features, tokens = self._image_features(image)
        return F.normalize(features, dim=-1) if normalize else features, tokens

    def _encode_text(self, text: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
        features, tokens = self._text_features(text)
        return F.normalize(features, dim=-1) if normalize else features, tokens
