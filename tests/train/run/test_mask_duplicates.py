"""Runs whose loss leaves out what is twice in a batch: which ids it has, and what the log says."""

import re
from functools import partial

import pytest
import torch

import fastclip
from fastclip.cli import main
from fastclip.data.built_in import PAIRS
from fastclip.data.digits.source import DigitSource
from fastclip.data.sources.samples import Sample
from fastclip.distributed.processes import Processes
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.duplicates import connected, find_duplicates, kept_ids
from fastclip.train.run.loss import make_loss
from fastclip.train.run.run import Run
from fastclip.train.run.step_batch import of_batch
from fastclip.train.settings.run_config import RunConfig
from tests.support.runs import arguments

NUM_CAPTIONS, NUM_IMAGES = 7, 25


class Repeating(DigitSource):
    """Digits in which captions and images are there more than once."""

    def load(self, index):
        image, caption = (
            super(Repeating, self).load(index % n) for n in (NUM_IMAGES, NUM_CAPTIONS)
        )
        return Sample(str(index), image.image, caption.caption)


@pytest.fixture(autouse=True)
def repeating_digits(monkeypatch):
    monkeypatch.setitem(PAIRS, "digits", partial(Repeating, held_out=False))


def run_over(directory, **settings):
    """A run of one step over 32 pairs, before it has trained."""
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    config = RunConfig(
        train_data="digits", train_num_samples=32, model="digits", workers=0, warmup=0, epochs=1,
        device="cpu", name="run", zeroshot_frequency=0, log_every_n_steps=1,
        **{"global_batch_size": 32, "micro_batch_size": 16} | settings,
    )  # fmt: skip
    return Run(config, Processes("cpu"), directory, RunLog(None))


def features_of(run, batch):
    """Images, texts and scalars of a batch, without dropout."""
    images, texts = (torch.cat(parts) for parts in zip(*batch.pairs, strict=True))
    with torch.no_grad():
        found = run.model.eval()(run.compute.prepare(images), texts)
    run.model.train()
    return texts, found


def facts_of(seed, num=60):
    generator = torch.Generator().manual_seed(seed)
    names = "caption_ids", "image_ids"
    return {
        name: torch.randint(-(2**62), 2**62, (45,), generator=generator)[
            torch.randint(0, 45, (num,), generator=generator)
        ]
        for name in names
    }


@pytest.mark.parametrize("seed", range(3))
def test_pairs_that_others_connect_are_one_component(seed):
    columns = torch.stack(list(facts_of(seed).values()))
    reached = (columns[:, :, None] == columns[:, None]).any(0)
    same = reached
    for _ in range(60):
        reached = (reached.float() @ same.float()) > 0
    found = connected(columns)
    assert torch.equal(found[:, None] == found, reached)
    assert 1 < len(found.unique()) < 60


@pytest.mark.parametrize("names", [["caption_ids"], ["image_ids"], ["caption_ids", "image_ids"]])
def test_what_is_left_out_is_counted(names):
    facts = {name: fact for name, fact in facts_of(1).items() if name in names}
    ids, counts = find_duplicates(facts, Processes("cpu"))
    same = (ids[:, None] == ids).fill_diagonal_(False)
    direct = torch.stack([x[:, None] == x for x in facts.values()]).any(0).fill_diagonal_(False)
    assert counts.pop("masked_pairs") == same.sum()
    assert (direct <= same).all()
    beyond = int((same & ~direct).sum())
    assert counts == ({"masked_beyond": beyond} if len(names) == 2 else {})
    assert (beyond > 0) == (len(names) == 2)


@pytest.mark.parametrize("loss", ["clip", "siglip", "matryoshka"])
def test_a_step_has_the_loss_with_the_ids_of_its_captions(loss, tmp_path):
    settings = {"matryoshka_dims": (128, 16)} if loss == "matryoshka" else {"loss": loss}
    run = run_over(tmp_path, mask_duplicates="caption", **settings)
    batch = run._next_batch(iter(run.data.loader))
    ids = batch.facts["caption_ids"]
    texts, features = features_of(run, batch)
    assert torch.equal(ids[:, None] == ids, (texts[:, None] == texts).all(2))
    function = {
        "clip": fastclip.clip_loss, "siglip": fastclip.siglip_loss,
        "matryoshka": partial(fastclip.matryoshka_clip_loss, dims=(128, 16)),
    }[loss]  # fmt: skip
    outcome = run.take_step(batch.pairs, 0, **of_batch(batch, run.processes).of_loss)
    assert outcome.loss == pytest.approx(function(*features, ids=ids).item(), rel=1e-4)
    assert outcome.loss < 0.99 * function(*features).item()


def test_a_step_of_one_micro_batch_is_in_the_order_of_ids(tmp_path):
    settings = {"mask_duplicates": "caption", "micro_batch_size": 32}
    for more, is_ordered in (
        ({}, True), ({"batch_curve_every": 1}, False), ({"mask_duplicates": "both"}, False),
    ):  # fmt: skip
        run = run_over(tmp_path, **settings | more)
        batch = run._next_batch(iter(run.data.loader))
        assert len(batch.pairs) == 1
        ids = batch.facts["caption_ids"]
        assert (ids[1:] >= ids[:-1]).all() == is_ordered


def test_the_log_has_the_numbers(tmp_path):
    number = torch.arange(32)
    captions, images = number % NUM_CAPTIONS, number % NUM_IMAGES
    same = {"caption": captions[:, None] == captions, "image": images[:, None] == images}
    for kind in ("caption", "image", "both"):
        run = run_over(tmp_path / kind, mask_duplicates=kind)
        run.log = RunLog(tmp_path / kind)
        assert run.train() == 0
        run.log.close()
        (line,) = re.findall(".*Train Epoch.*", (tmp_path / kind / "out.log").read_text())
        numbers = [int(x) for x in re.findall(r" Masked (?:pairs|beyond): (\d+)", line)]
        if kind != "both":
            assert numbers == [same[kind].sum() - 32]
            continue
        # Seven images that are there twice connect all captions.
        direct = (same["caption"] | same["image"]).sum() - 32
        assert numbers == [32 * 31, 32 * 31 - direct]


@pytest.mark.parametrize("loss", ["dcl", "infoloob", "sogclr"])
def test_losses_of_the_family_have_the_ids(loss, tmp_path):
    run = run_over(tmp_path, loss=loss, mask_duplicates="caption")
    batch = run._next_batch(iter(run.data.loader))
    of_loss = of_batch(batch, run.processes).of_loss
    _, (images, texts, scale) = features_of(run, batch)
    expected = make_loss(run.config, run.model, 32)(images, texts, scale, **of_loss)
    outcome = run.take_step(batch.pairs, 0, **of_loss)
    assert outcome.loss == pytest.approx(expected.item(), rel=1e-4)
    of_loss.pop("ids")
    plain = make_loss(run.config, run.model, 32)(images, texts, scale, **of_loss)
    assert plain.item() != pytest.approx(expected.item(), rel=1e-5)


def test_a_queue_has_the_ids_of_earlier_steps(tmp_path):
    run = run_over(tmp_path, loss="queue", queue_size=40, mask_duplicates="caption")
    loaded = iter(run.data.loader)
    batch = run._next_batch(loaded)
    ids = batch.facts["caption_ids"]
    _, (images, texts, scale) = features_of(run, batch)
    expected = fastclip.QueueLoss(images.shape[1], 40, symmetric=True, in_batch=True, with_ids=True)
    with torch.no_grad():
        for loss in (lambda *x: run.loss(*x, scale, ids=ids),
                     lambda *x: expected(*x, *reversed(x), scale, ids=ids)):  # fmt: skip
            loss(images.roll(1, 1), texts)
    of_loss, counts = of_batch(batch, run.processes, kept_ids(run.loss))
    same = ids[:, None] == ids
    assert counts == {"masked_pairs": same.sum() - 32, "masked_keys": 2 * same.sum()}
    value = expected(images, texts, texts, images, scale, ids=ids)
    outcome = run.take_step(batch.pairs, 0, **of_loss)
    assert outcome.loss == pytest.approx(value.item(), rel=1e-4)
    assert torch.equal(run.loss.loss.queue.ids, expected.queue.ids)


def test_ids_that_do_not_last_are_refused_for_a_queue(tmp_path, capsys):
    assert main(arguments(tmp_path, "run", loss="queue", mask_duplicates="both")) == 2
    error = capsys.readouterr().err
    assert "mask_duplicates must be caption or image with the loss queue, whose keys keep" in error
    with pytest.raises(SystemExit):
        main(arguments(tmp_path, "run", mask_duplicates="text"))
    assert "invalid choice: 'text'" in capsys.readouterr().err
