"""A run whose loss has a state: a learned temperature, a queue of features and its cursor."""

import functools
import os
import signal

import pytest
import torch
from torch import Tensor, nn

import fastclip
from fastclip.distributed.processes import Processes
from fastclip.train.checkpoints.store import CheckpointStore
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.loss import make_loss
from fastclip.train.run.run import Run
from fastclip.train.settings.run_config import RunConfig
from tests.support.runs import assert_same_run

STEPS = 6
STOPPED = 143  # what a shell says of SIGTERM


class QueueLoss(nn.Module):
    """CLIP's loss, and one of images against the texts of the last steps.

    Args:
        stops_at: the step in which it tells its own process to stop, or None.
    """

    def __init__(self, width: int, size: int = 48, stops_at: int | None = None) -> None:
        super().__init__()
        self.stops_at = stops_at
        self.temperature = nn.Parameter(torch.tensor(0.5))
        self.mixing = nn.Parameter(torch.eye(width) + 0.1 * torch.randn(width, width))
        self.register_buffer("queue", torch.randn(size, width))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    def forward(
        self, image_features: Tensor, text_features: Tensor, logit_scale: Tensor
    ) -> dict[str, Tensor]:
        logits = image_features @ self.mixing @ self.queue.T.clone() / self.temperature
        contrastive = fastclip.clip_loss(image_features, text_features, logit_scale)
        self._take_in(text_features.detach())
        if self.num_steps == self.stops_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"contrastive_loss": contrastive, "of_queue": logits.logsumexp(1).mean()}

    @torch.no_grad()
    def _take_in(self, features: Tensor) -> None:
        places = (self.cursor + torch.arange(len(features))) % len(self.queue)
        self.queue[places] = features
        self.cursor.add_(len(features)).remainder_(len(self.queue))
        self.num_steps += 1


def run_with(make_loss, directory, **settings):
    """A run of the digits over `STEPS` steps, before it has trained."""
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    settings = {"train_num_samples": 96, "epochs": 2, **settings}
    config = RunConfig(
        train_data="digits", model="digits", batch_size=16, accum_freq=2, workers=0, lr=1e-2,
        warmup=1, device="cpu", name="run", save_every_steps=1, grad_clip_norm=1.0, ema_decay=0.9,
        zeroshot_frequency=0, shuffle_buffer=50, **settings,
    )  # fmt: skip
    return Run(config, Processes("cpu"), directory, RunLog(None), make_loss)


def make_queue_loss(config, model, **settings):
    return QueueLoss(model.config.embed_dim, **settings)


def make_plain_loss(config, model):
    return fastclip.ClipLoss()


def content_in(directory):
    return CheckpointStore(directory / "checkpoints").newest().content


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run that nobody disturbs leaves."""
    directory = tmp_path_factory.mktemp("whole")
    assert run_with(make_queue_loss, directory).train() == 0
    return directory


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What a step of a run leaves whose loss has no state."""
    directory = tmp_path_factory.mktemp("plain")
    assert run_with(make_plain_loss, directory, train_num_samples=32, epochs=1).train() == 0
    return directory


def test_parameters_of_a_loss_are_trained_and_its_buffers_are_stored(whole):
    content = content_in(whole)
    stored = content["loss_state_dict"]
    begun = run_with(make_queue_loss, whole).loss.state_dict()
    assert stored.keys() == begun.keys()
    for name in ("temperature", "mixing", "queue"):
        assert not torch.equal(stored[name], begun[name]), name
    assert stored["num_steps"] == STEPS and stored["cursor"] == STEPS * 32 % 48
    vectors, matrices = content["optimizer"]["param_groups"]
    assert vectors["weight_decay"] == 0 < matrices["weight_decay"]
    moments = content["optimizer"]["state"]
    of_temperature, of_mixing = (moments[group["params"][-1]] for group in (vectors, matrices))
    assert of_temperature["exp_avg"].shape == () and of_temperature["step"] == STEPS
    assert of_mixing["exp_avg"].shape == stored["mixing"].shape


def test_run_that_is_stopped_and_resumed_ends_as_the_one_that_was_not(whole, tmp_path):
    stopped = run_with(functools.partial(make_queue_loss, stops_at=4), tmp_path)
    assert stopped.train() == STOPPED
    assert content_in(tmp_path)["global_step"] == 4
    resumed = run_with(make_queue_loss, tmp_path)
    resumed.resume("latest")
    assert resumed.loss.num_steps == 4
    assert resumed.train() == 0
    content, expected = content_in(tmp_path), content_in(whole)
    assert_same_run(content, expected)
    for name, value in expected["loss_state_dict"].items():
        assert torch.equal(content["loss_state_dict"][name], value), name


def test_loss_without_a_state_leaves_no_trace_in_a_checkpoint(plain):
    assert "loss_state_dict" not in content_in(plain)


def test_loss_with_a_state_needs_a_checkpoint_with_one(plain):
    run = run_with(make_queue_loss, plain, train_num_samples=32, epochs=1)
    with pytest.raises(ValueError, match=r"no state of a loss, .* this run has temperature \("):
        run.resume("latest")


@pytest.mark.parametrize(
    "make_loss, message",
    [
        (make_plain_loss, "is of another loss: .* of this run's loss has nothing"),
        (functools.partial(make_queue_loss, size=64), r"has .*queue \(48, .* has .*queue \(64, "),
    ],
)
def test_checkpoint_of_another_loss_is_refused_by_name(make_loss, message, whole):
    with pytest.raises(ValueError, match=message):
        run_with(make_loss, whole).resume("latest")


def test_label_smoothing_and_margin_are_those_of_the_settings(plain, tmp_path):
    settings = {"label_smoothing": 0.2, "margin": 0.1}
    run = run_with(make_loss, tmp_path, train_num_samples=32, epochs=1, **settings)
    loss = run.loss
    assert type(loss) is fastclip.ClipLoss
    assert (loss.label_smoothing, loss.margin) == (0.2, 0.1)
    assert run.train() == 0
    stored, without = content_in(tmp_path), content_in(plain)
    assert settings.items() <= stored["config"].items()
    assert any(
        not torch.equal(x, without["state_dict"][k]) for k, x in stored["state_dict"].items()
    )
