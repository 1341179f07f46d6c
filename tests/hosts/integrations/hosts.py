"""All hosts, imported once by the process that all ranks are forks of: each needs seconds."""

import accelerate  # noqa: F401
import torch._dynamo  # noqa: F401

from fastclip.benchmarks.torchvision import make_importable

make_importable()

import lightning.pytorch  # noqa: E402, F401
import sentence_transformers.sentence_transformer.losses  # noqa: E402, F401
from transformers import CLIPModel, SiglipModel, Trainer  # noqa: E402, F401
