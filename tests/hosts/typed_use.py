"""What checkers of types must find in the public calls: `test_types.py` runs them on this file.

No test imports it. A line that ends in "# wrong" must be refused.
"""

import torch
from torch import Tensor
from typing_extensions import assert_type

import fastclip

images, texts = torch.randn(4, 8), torch.randn(4, 8)
ids = torch.arange(4)

loss = fastclip.clip_loss(images, texts, 10.0)
assert_type(loss, Tensor)
loss.backward()
assert_type(fastclip.clip_loss(images, texts, 10.0, normalize=True, ids=ids), Tensor)
value, stats = fastclip.clip_loss(images, texts, 10.0, return_stats=True, backend="chunked")
assert_type(value, Tensor)
assert_type(stats, fastclip.ClipStats)
assert_type(stats.image_to_text_accuracy, Tensor)
fastclip.clip_loss(images, texts, 10.0, directions=["image_to_text"])
fastclip.clip_loss(images, texts, 10.0, directions={"image_to_text": 0.7, "text_to_image": 0.3})
fastclip.clip_loss(images, texts, 10.0, backend="typo")  # wrong
fastclip.clip_loss(images, texts, 10.0, reduction="avg")  # wrong
fastclip.clip_loss(images, texts, 10.0, scheduel="ring")  # wrong
fastclip.clip_loss(images, texts, 10.0, directions=["image_to_image"])  # wrong

assert_type(fastclip.siglip_loss(images, texts, 10.0, -10.0), Tensor)
fastclip.siglip_loss(images, texts, 10.0, -10.0, schedule="star")  # wrong

module = fastclip.ClipLoss(backend="cpu", schedule="ring")
assert_type(module(images, texts, 10.0), Tensor)
assert_type(module(images, texts, 10.0, output_dict=True), dict[str, Tensor])
found, its_stats = module(images, texts, 10.0, return_stats=True, weights=torch.ones(4))
assert_type(found, Tensor)
assert_type(its_stats, fastclip.ClipStats)
fastclip.ClipLoss(schedule="star")  # wrong
module(images, texts, 10.0, wieghts=torch.ones(4))  # wrong

wants_dict = bool(images.numel())
assert_type(
    fastclip.SigLipLoss()(images, texts, 10.0, output_dict=wants_dict), Tensor | dict[str, Tensor]
)
either = module(images, texts, 10.0, None, wants_dict)
assert_type(either, Tensor | dict[str, Tensor] | tuple[Tensor, fastclip.ClipStats])
assert_type(fastclip.SigLipLoss()(images, texts, 10.0, -10.0), Tensor)
assert_type(fastclip.SigLipLoss()(images, texts, 10.0, output_dict=True), dict[str, Tensor])
