"""Evaluation by streaming: the metrics of all numbers at once."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import IndexedSource
from fastclip.evaluate.retrieval import retrieval
from fastclip.evaluate.zero_shot_task import Labels, ZeroShotTask
from fastclip.train.evaluation import Evaluator

NAMES = [f"class {i}" for i in range(7)]


class Pictures(IndexedSource):
    """Pictures of three bytes, each with its class for a caption."""

    classes = NAMES

    def __len__(self):
        return 40

    def load(self, index):
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randint(256, (3, 1, 1), generator=generator, dtype=torch.uint8)
        return Sample(str(index), pixels, NAMES[index % len(NAMES)])


class Model(nn.Module):
    """Features of a picture are its pixels, those of a text a table's."""

    def __init__(self):
        super().__init__()
        self.table = torch.randn(256, 3, generator=torch.Generator().manual_seed(1))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, image=None, text=None):
        image_features = None if image is None else F.normalize(image.flatten(1) - 128, dim=1)
        text_features = None if text is None else F.normalize(self.table[text].mean(1), dim=1)
        return image_features, text_features, self.logit_scale.exp()


def tokenize(texts):
    return torch.tensor([list(text.encode()[-3:]) for text in texts])


ALONE = SimpleNamespace(
    rank=0, world_size=1, device=torch.device("cpu"), gather=lambda value: [value],
    share=lambda value: value,
)  # fmt: skip


def evaluator():
    return Evaluator(ALONE, lambda images: images.float(), nullcontext, tokenize, chunk=3)


def loader(tokenizer):
    return PairLoader(Pictures(), None, tokenizer, batch_size=8, shuffle_buffer=1, drop_last=False)


TASK = ZeroShotTask("zeroshot-val", Pictures(), NAMES, ("a {}", "the {}"))


def test_zero_shot_accuracy_is_that_of_all_logits_at_once():
    model = Model().eval()
    found = evaluator().zero_shot(model, TASK, loader(TASK.labels))
    images = torch.stack([Pictures().load(i).image for i in range(40)]).float()
    prompts = torch.stack(
        [model(text=tokenize([t.format(n) for t in TASK.templates]))[1].mean(0) for n in NAMES]
    )
    logits = model(images)[0] @ F.normalize(prompts, dim=1).T
    labels = torch.arange(40) % len(NAMES)
    for k in (1, 5):
        hits = (logits.topk(k).indices == labels[:, None]).any(1)
        assert found[f"zeroshot-val-top{k}"] == pytest.approx(hits.double().mean().item())
    assert 0 < found["zeroshot-val-top1"] < found["zeroshot-val-top5"] < 1


def test_features_that_are_all_alike_classify_nothing():
    class Collapsed(Model):
        def forward(self, image=None, text=None):
            num = len(image if text is None else text)
            return (F.normalize(torch.ones(num, 3)),) * 2

    found = evaluator().zero_shot(Collapsed(), TASK, loader(TASK.labels))
    assert found == {"zeroshot-val-top1": 0.0, "zeroshot-val-top5": 0.0}


def test_features_that_are_not_numbers_classify_nothing():
    class Diverged(Model):
        def forward(self, image=None, text=None):
            num = len(image if text is None else text)
            return (torch.full((num, 3), float("nan")),) * 2

    found = evaluator().zero_shot(Diverged(), TASK, loader(TASK.labels))
    assert found == {"zeroshot-val-top1": 0.0, "zeroshot-val-top5": 0.0}
    ranks = retrieval(*Diverged()(torch.empty(7, 3), None)[:1] * 2)
    assert ranks.image_to_text.tolist() == ranks.text_to_image.tolist() == [7] * 7


def test_labels_are_the_places_of_the_classes():
    labels = Labels(("a", "b"))
    assert labels(["b", "a", "b"]).tolist() == [[1], [0], [1]]
    with pytest.raises(ValueError):
        labels(["c"])
