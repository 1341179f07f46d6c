"""Runs with a queue whose keys are made by an average of the model that is trained."""

import pytest
import torch

import fastclip
from fastclip.train.run.step_batch import of_batch
from tests.support.runs import assert_same_run
from tests.train.run.test_losses_of_a_run import SMALL_RUN
from tests.train.run.test_run_with_a_loss import content_in, run_with

MOMENTUM = 0.75
SETTINGS = SMALL_RUN | {
    "loss": "queue", "queue_size": 48, "queue_momentum": MOMENTUM, "mask_duplicates": "caption",
    "log_every_n_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run of two steps leaves that nobody disturbs, and the weights that it began with."""
    directory = tmp_path_factory.mktemp("whole")
    run = run_with(None, directory, **SETTINGS)
    begun = {name: x.clone() for name, x in run.model.state_dict().items()}
    assert run.train() == 0
    return directory, begun


def weights_of(directory, epoch):
    path = directory / f"checkpoints/epoch_{epoch}.pt"
    content = torch.load(path, weights_only=True)
    return content["state_dict"], content["key_encoder_state_dict"]


def test_encoder_of_keys_begins_as_the_model_and_follows_it(whole):
    directory, expected = whole
    for epoch in (1, 2):
        trained, keys = weights_of(directory, epoch)
        assert keys.keys() == expected.keys()
        moved = 0
        for name, before in expected.items():
            mean = MOMENTUM * before + (1 - MOMENTUM) * trained[name]
            torch.testing.assert_close(keys[name], mean, rtol=1e-5, atol=1e-7)
            moved += not torch.equal(keys[name], before)
        assert moved > 10
        expected = keys


def test_run_with_an_encoder_of_keys_and_ids_goes_on_to_the_bit(whole, tmp_path):
    directory, _ = whole
    resumed = run_with(None, tmp_path, **SETTINGS)
    resumed.resume(str(directory / "checkpoints/epoch_1.pt"))
    assert resumed.train() == 0
    content, expected = content_in(tmp_path), content_in(directory)
    assert_same_run(content, expected)
    for name, value in expected["loss_state_dict"].items():
        assert torch.equal(content["loss_state_dict"][name], value), name
    assert expected["loss_state_dict"]["loss.queue.ids"].unique().numel() > 1


def test_step_has_the_keys_of_the_encoder(tmp_path):
    run = run_with(None, tmp_path, **SETTINGS | {"mask_duplicates": None})
    with torch.no_grad():
        for p in run.key_encoder.average.parameters():
            p.add_(0.01 * torch.randn_like(p))
    batch = run._next_batch(iter(run.data.loader))
    images, texts = (torch.cat(parts) for parts in zip(*batch.pairs, strict=True))
    found = run.key_encoder(batch.pairs)
    assert not any(x.requires_grad for x in found.values())
    assert all(p.grad is None for p in run.key_encoder.average.parameters())
    with torch.no_grad():
        of_images, of_texts, *_ = run.key_encoder.average.module(run.compute.prepare(images), texts)
        own_images, own_texts, scale = run.model.eval()(run.compute.prepare(images), texts)
    expected = {"image_keys": of_images, "text_keys": of_texts}
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(of_images, own_images, atol=1e-3)
    run.model.train()
    loss = (
        fastclip.info_nce_loss(own_images, of_texts, logit_scale=scale)
        + fastclip.info_nce_loss(own_texts, of_images, logit_scale=scale)
    ) / 2
    outcome = run.take_step(batch.pairs, 0, **found)
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-4)
    keys = run.loss.loss.queue.keys[:32]
    torch.testing.assert_close(keys, of_texts, rtol=1e-4, atol=1e-5)


def test_step_that_is_left_out_leaves_the_encoder_of_keys(tmp_path):
    run = run_with(None, tmp_path, **SETTINGS, on_nonfinite="skip")
    batch = run._next_batch(iter(run.data.loader))
    of_loss = of_batch(batch, run.processes).of_loss | run.key_encoder(batch.pairs)
    before = [p.clone() for p in run.key_encoder.average.parameters()]
    bad = of_loss | {"image_keys": torch.full_like(of_loss["image_keys"], float("nan"))}
    assert run.take_step(batch.pairs, 0, **bad).objection is not None
    assert all(map(torch.equal, run.key_encoder.average.parameters(), before))
    assert run.take_step(batch.pairs, 1, **of_loss).objection is None
    assert not all(map(torch.equal, run.key_encoder.average.parameters(), before))


@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"queue_momentum": 0.9},
            r"--queue-momentum was 0.75, is now 0.9 \(the keys in the queue",
        ),
        ({"queue_momentum": None}, "--queue-momentum was 0.75, is now None"),
        (
            {"mask_duplicates": "image"},
            "--mask-duplicates was 'caption', is now 'image' .the keys in",
        ),
        ({"mask_duplicates": None}, "--mask-duplicates was 'caption', is now None"),
    ],
)
def test_run_whose_keys_are_others_is_not_gone_on_with(given, message, whole, tmp_path):
    run = run_with(None, tmp_path, **SETTINGS | given)
    with pytest.raises(ValueError, match=message):
        run.resume(str(whole[0] / "checkpoints/epoch_1.pt"))
