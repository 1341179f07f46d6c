"""Evaluation by streaming: the metrics of all numbers at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import IndexedSource
from fastclip.evaluate.evaluator import Evaluator
from fastclip.evaluate.metrics import repeats
from fastclip.evaluate.ranking import retrieval
from fastclip.evaluate.zero_shot_task import Labels, ZeroShotTask

NAMES = [f"class {i}" for i in range(7)]


class Images(IndexedSource):
    """Images of three bytes, each with its class for a caption."""

    classes = NAMES

    def __len__(self):
        return 40

    def load(self, index):
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randint(256, (3, 1, 1), generator=generator, dtype=torch.uint8)
        return Sample(str(index), pixels, NAMES[index % len(NAMES)])


class Model(nn.Module):
    """Features of an image are its pixels, those of a text a table's."""

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
    broadcast=lambda value: value,
)  # fmt: skip


def evaluator():
    return Evaluator(ALONE, lambda images: images.float(), nullcontext, tokenize, chunk=3)


def loader(tokenizer):
    return PairLoader(Images(), None, tokenizer, batch_size=8, shuffle_buffer=1, drop_last=False)


class Captions(IndexedSource):
    """Ten images with five captions each: image i of three bytes, captions near it, some alike."""

    def __len__(self):
        return 50

    def load(self, index):
        generator = torch.Generator().manual_seed(index // 5)
        pixels = torch.randint(256, (3, 1, 1), generator=generator, dtype=torch.uint8)
        return Sample(str(index), pixels, str(index if index % 5 else 100))


class Perfect(Model):
    """A text is a number; its features are nearly those of its image, and 100 is any image's."""

    def forward(self, image=None, text=None):
        image_features, _, scale = super().forward(image)
        own = torch.cat([Captions().load(i).image.flatten()[None] for i in text.flatten().tolist()])
        text_features = super().forward(own[:, :, None, None].float())[0]
        return image_features, F.normalize(text_features + 1e-3 * text, dim=1), scale


def captions_loader(rank=0, world_size=1):
    def tokenize(texts):
        return torch.tensor([[int(text) % 100] for text in texts])

    return PairLoader(
        Captions(), None, tokenize, batch_size=8, shuffle_buffer=1, drop_last=False, rank=rank,
        world_size=world_size,
    )  # fmt: skip


def test_several_captions_of_an_image_are_found_and_repeats_counted():
    found = evaluator().retrieval(Perfect().eval(), captions_loader())
    for name in ("image_to_text", "text_to_image"):
        for k in (1, 5, 10):
            assert found[f"{name}_R@{k}"] == 1
    assert (found["num_samples"], found["num_images"], found["num_texts"]) == (50, 10, 41)
    assert repeats(found).startswith("the 50 pairs have 10 different images and 41 different texts")
    assert repeats({"num_samples": 5, "num_images": 5, "num_texts": 5}) is None
    assert repeats({"num_samples": 0}) is None


def test_captions_of_an_image_may_be_on_different_ranks():
    whole, parts = evaluator().retrieval(Perfect().eval(), captions_loader()), []
    for rank in (1, 0):
        processes = SimpleNamespace(
            **vars(ALONE) | {"gather": lambda value: parts.insert(0, value) or parts}
        )
        found = Evaluator(processes, lambda images: images.float(), nullcontext, tokenize, chunk=3)
        metrics = found.retrieval(Perfect().eval(), captions_loader(rank, 2))
    assert len(parts) == 2 and all(len(part.text_ids) > 5 for part in parts)
    assert metrics == pytest.approx(whole)


class Thread:
    """A process of a job whose processes are threads."""

    device = torch.device("cpu")

    def __init__(self, rank, values, barrier):
        self.rank, self.world_size = rank, len(values)
        self.values, self.barrier = values, barrier

    def exchange(self, value):
        self.values[self.rank] = value
        self.barrier.wait(60)
        found = list(self.values)
        self.barrier.wait(60)
        return found

    def gather(self, value):
        found = self.exchange(value)
        return found if self.rank == 0 else None

    def broadcast(self, value):
        return self.exchange(value)[0]


@pytest.mark.parametrize("world_size", [2, 5, 9])  # of nine, some have no class and no image
def test_zero_shot_of_several_processes_is_that_of_one(world_size):
    names = [NAMES[i % 5] for i in range(7)]
    task = ZeroShotTask("zeroshot-val", Few(), names, ("a {}", "the {}"))
    whole = evaluator().zero_shot(Model().eval(), task, in_order(task))
    values, barrier = [None] * world_size, threading.Barrier(world_size)

    def evaluate(rank):
        found = Evaluator(
            Thread(rank, values, barrier), lambda images: images.float(), nullcontext, tokenize, 3
        )
        return found.zero_shot(Model().eval(), task, in_order(task, rank, world_size))

    with ThreadPoolExecutor(world_size) as threads:
        first, *others = threads.map(evaluate, range(world_size))
    assert first == whole and others == [{}] * (world_size - 1)
    assert 0 < whole["zeroshot-val-top1"] < 1


class Few(Images):
    def __len__(self):
        return 8


def in_order(task, rank=0, world_size=1):
    return PairLoader(
        task.source, None, task.labels, batch_size=3, shuffle_buffer=1, drop_last=False, rank=rank,
        world_size=world_size,
    )  # fmt: skip


def test_classes_without_a_readable_image_are_named():
    class Damaged(Images):
        def load(self, index):
            sample = super().load(index)
            if index % len(NAMES) in (2, 5):
                return BadSample(sample.key, "unusable image")
            return sample

    said = []
    task = ZeroShotTask("zeroshot-val", Damaged(), NAMES, ("a {}",))
    found = Evaluator(
        ALONE, lambda images: images.float(), nullcontext, tokenize, chunk=3, warn=said.append
    )
    damaged = PairLoader(
        Damaged(), None, task.labels, batch_size=8, shuffle_buffer=1, drop_last=False,
        max_bad_rate=1,
    )  # fmt: skip
    found.zero_shot(Model().eval(), task, damaged)
    assert said == ["zeroshot-val: no image of these classes could be read: 'class 2', 'class 5'"]


TASK = ZeroShotTask("zeroshot-val", Images(), NAMES, ("a {}", "the {}"))


def test_zero_shot_accuracy_is_that_of_all_logits_at_once():
    model = Model().eval()
    found = evaluator().zero_shot(model, TASK, loader(TASK.labels))
    images = torch.stack([Images().load(i).image for i in range(40)]).float()
    prompts = torch.stack(
        [model(text=tokenize([t.format(n) for t in TASK.templates]))[1].mean(0) for n in NAMES]
    )
    logits = model(images)[0] @ F.normalize(prompts, dim=1).T
    labels = torch.arange(40) % len(NAMES)
    for k in (1, 5):
        hits = (logits.topk(k).indices == labels[:, None]).any(1)
        assert found[f"zeroshot-val-top{k}"] == pytest.approx(hits.double().mean().item())
    assert 0 < found["zeroshot-val-top1"] < found["zeroshot-val-top5"] < 1


def test_of_classes_with_one_name_the_first_is_predicted():
    """As by an argmax over all classes; else no image of either would ever be right."""
    names = ["one", "two", "one", "ten", "six", "two", "one"]
    task = ZeroShotTask("zeroshot-val", Images(), names, ("a {}", "the {}"))
    model = Model().eval()
    found = evaluator().zero_shot(model, task, loader(task.labels))
    images = torch.stack([Images().load(i).image for i in range(40)]).double()
    tokens = [tokenize([t.format(n) for t in task.templates]) for n in names]
    prompts = F.normalize(torch.stack([model(text=t)[1].double().mean(0) for t in tokens]), dim=1)
    logits = model(images)[0] @ prompts.T
    order = logits.round(decimals=5).sort(dim=1, descending=True, stable=True).indices
    labels = torch.arange(40) % len(names)
    for k in (1, 5):
        hits = (order[:, :k] == labels[:, None]).any(1)
        assert found[f"zeroshot-val-top{k}"] == pytest.approx(hits.double().mean().item())
    assert hits[labels == 6].double().mean() < 1  # behind both of its name at least


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
