"""Runs with the losses that `--loss` names: their state, and what is refused."""

import json
import re

import pytest
import torch

import fastclip
from fastclip.cli import main
from fastclip.train.checkpoints.run_checkpoints import Progress
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.loss import make_loss
from fastclip.train.settings.loss_config import LOSSES
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.cached import CachedStep
from tests.support.pair_files import write_shards
from tests.support.runs import arguments, assert_same_run
from tests.support.small_models import SMALL, build, inputs
from tests.train.run.test_run_with_a_loss import content_in, run_with

SMALL_RUN = {"train_num_samples": 50, "epochs": 2}  # 2 epochs of one step of 32, over two passes
OPTIONS = {"queue": {"queue_size": 48}, "sogclr": {"sogclr_gamma": 0.6}, "dcl": {"dcl_sigma": 0.5}}
WIDTH = SMALL["vit"].embed_dim


def settings_of(loss):
    return {"loss": loss, **OPTIONS.get(loss, {})}


@pytest.mark.parametrize("loss", ["queue", "sogclr"])
def test_loss_with_a_state_goes_on_to_the_bit(loss, tmp_path):
    settings = SMALL_RUN | settings_of(loss)
    assert run_with(None, tmp_path / "whole", **settings).train() == 0
    first = tmp_path / "whole/checkpoints/epoch_1.pt"
    resumed = run_with(None, tmp_path / "resumed", **settings)
    resumed.resume(str(first))
    begun = {name: torch.as_tensor(x).clone() for name, x in resumed.loss.state_dict().items()}
    assert resumed.train() == 0
    content, expected = content_in(tmp_path / "resumed"), content_in(tmp_path / "whole")
    assert_same_run(content, expected)
    for name, value in expected["loss_state_dict"].items():
        assert torch.equal(content["loss_state_dict"][name], value), name
        assert not torch.equal(begun[name], value), name
    if loss == "queue":
        assert expected["loss_state_dict"]["loss.queue._extra_state"].tolist() == [64 % 48, 48]
    else:
        num_met = expected["loss_state_dict"]["loss.log_u"].isfinite().sum(1)
        assert 32 <= num_met[0] == num_met[1] <= 50
        resumed.loss.loss.log_u[0, 0] = float("nan")  # which no sample begins with
        with pytest.raises(FloatingPointError, match=r"'loss\.log_u'\] in it is not finite"):
            resumed.checkpoints.save(Progress(2, 2))
    other = run_with(None, tmp_path / "other", **SMALL_RUN, loss="infoloob")
    with pytest.raises(
        ValueError, match=f"--loss was '{loss}', is now 'infoloob' \\(a loss cannot use"
    ):
        other.resume(str(first))


def plain_step(model, loss, images, texts, of_loss):
    image_features, text_features, *rest = model(images, texts)
    value = loss(image_features, text_features, *rest, **of_loss)
    value.backward()
    return value.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("loss", ["queue", "dcl", "infoloob", "sogclr"])
def test_cached_steps_are_those_of_the_whole_batch(loss):
    """Two of them, so that the second has a state to begin with; each is kept once."""
    config = RunConfig(backend="reference", **settings_of(loss))
    images, texts = inputs(SMALL["vit"], 10)
    found, expected = [], []
    for is_cached, results in ((True, found), (False, expected)):
        model = build(SMALL["vit"]).double().train()
        own = make_loss(config, model, num_samples=20).double()
        for number in range(2):
            of_loss = {"indices": torch.arange(10) + number * 5} if loss == "sogclr" else {}
            model.zero_grad()
            if is_cached:
                value = CachedStep(model, own, 3)(images.double(), texts, **of_loss).loss
                gradients = {name: p.grad for name, p in model.named_parameters()}
            else:
                value, gradients = plain_step(model, own, images.double(), texts, of_loss)
            results.append((value, {k: g.clone() for k, g in gradients.items()}))
        results.append(own.state_dict())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_run_over_prefixes_has_a_term_for_each_and_the_sum_is_its_loss(tmp_path):
    settings = {**SMALL_RUN, "matryoshka_dims": (64, 16), "matryoshka_weights": (1.0, 0.5)}
    run = run_with(None, tmp_path, **settings)
    run.log = RunLog(tmp_path)
    assert run.train() == 0
    run.log.close()
    line = (tmp_path / "out.log").read_text().split("Train Epoch: 1 ")[1]
    found = dict(re.findall(r"(\S*[Ll]oss): (\S+) \(", line))
    assert list(found) == ["Contrastive_64_loss", "Contrastive_16_loss", "Loss"]
    *terms, loss = map(float, found.values())
    assert sum(terms) == pytest.approx(loss, rel=1e-3) and terms[0] > terms[1]
    (_, last) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert list(last["train_losses"].values()) == pytest.approx(terms, rel=1e-3)
    with pytest.raises(ValueError, match=r"matryoshka_dims must be at most 128, .*, got 129"):
        run_with(None, tmp_path / "long", **SMALL_RUN, matryoshka_dims=(129, 16))


@pytest.mark.parametrize(
    "settings", [*map(settings_of, LOSSES), {"distill_model": "a"}, {"matryoshka_dims": (8, 4)}]
)
def test_every_loss_goes_over_ranks_as_the_run_says(settings):
    config = RunConfig(loss_schedule="ring", **settings)
    loss = make_loss(config, build(SMALL["vit"]), num_samples=20)
    assert getattr(loss, "loss", loss).schedule == "ring"


def test_queue_is_a_memory_across_batches_in_both_directions():
    config = RunConfig(loss="queue", queue_size=16)
    loss = make_loss(config, build(SMALL["vit"]))
    features = torch.nn.functional.normalize(torch.randn(4, 8, WIDTH), dim=-1)
    first = loss(features[0], features[1], torch.tensor(10.0))
    torch.testing.assert_close(first, fastclip.clip_loss(features[0], features[1], 10.0))
    images, texts, scale = features[2], features[3], 10.0
    found = loss(images, texts, torch.tensor(scale))
    targets = torch.arange(8)
    of_images = scale * images @ torch.cat([texts, features[1]]).T
    of_texts = scale * texts @ torch.cat([images, features[0]]).T
    expected = [torch.nn.functional.cross_entropy(x, targets) for x in (of_images, of_texts)]
    torch.testing.assert_close(found, sum(expected) / 2)


@pytest.mark.parametrize(
    "flags, message",
    [
        (dict(loss="queue", siglip=True), "loss must be siglip, or left out, if siglip is true"),
        (dict(queue_size=9), "queue_size must be 65536 with clip, whose loss does not use it"),
        (dict(loss="dcl", margin=0.1), "margin must be 0 with dcl, whose loss does not use it"),
    ],
)
def test_flags_that_contradict_the_loss_are_refused(flags, message, tmp_path, capsys):
    assert main(arguments(tmp_path, "run", **flags)) == 2
    assert f"fastclip train: {message}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_loss_that_remembers_samples_refuses_tar_shards(tmp_path, capsys):
    write_shards(tmp_path, [80, 80])
    shards = f"{tmp_path}/{{000..001}}.tar"
    assert main(arguments(tmp_path, "run", loss="sogclr", train_data=shards)) == 2
    assert (
        "loss must not be sogclr with tar shards, such as --train-data" in capsys.readouterr().err
    )
