import math

import pytest
import torch

from fastclip import ClipLoss
from fastclip.demo.loop import train
from fastclip.models.clip import CLIP
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.train.settings.step_config import TrainConfig
from fastclip.train.step.optimizer import make_optimizer
from fastclip.train.step.schedule import learning_rate_at

MODEL = ClipConfig(
    16, VisionConfig((4, 4), patch_size=2, width=16, layers=1, head_width=8, channels=1),
    TextConfig(context_length=4, vocab_size=20, width=16, heads=2, layers=1),
)  # fmt: skip
CONFIG = TrainConfig(batch_size=16, steps=30, warmup_steps=3, learning_rate=3e-3, seed=0)


def one_batch():
    """Sixteen images, each with a text of its own."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.tensor([[18, 1 + i, 19, 0] for i in range(16)])
    return torch.randn(16, 1, 4, 4, generator=generator), tokens


def run(config=CONFIG, loss=None, batches=None, **kwargs):
    torch.manual_seed(config.seed)
    model = CLIP(MODEL)
    history = train(
        model,
        make_optimizer(model, config),
        loss or ClipLoss(),
        [one_batch()] * config.steps if batches is None else batches,
        config,
        **kwargs,
    )
    return model, history


def test_training_brings_the_loss_from_chance_to_near_zero():
    _, history = run()
    assert history[0].loss == pytest.approx(math.log(16), abs=1.0)
    assert history[-1].loss < 0.3


def test_same_seed_gives_the_same_weights_bit_for_bit():
    (first, one), (again, two) = run(), run()
    assert [m.loss for m in one] == [m.loss for m in two]
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    other, _ = run(TrainConfig(**{**CONFIG.to_dict(), "seed": 1}))
    assert not torch.equal(first.visual.proj, other.visual.proj)


@pytest.mark.parametrize("budget", [0, "unlimited"])
def test_micro_batches_train_as_the_whole_batch_does(budget):
    whole, _ = run()
    config = TrainConfig(**{**CONFIG.to_dict(), "micro_batch_size": 5, "activation_budget": budget})
    parts, history = run(config)
    assert history[-1].loss < 0.3
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(value, parts.state_dict()[key], rtol=1e-2, atol=1e-3)


def test_fused_loss_trains_as_the_reference_does():
    (fused, _), (reference, _) = run(), run(loss=ClipLoss(backend="reference"))
    for key, value in fused.state_dict().items():
        torch.testing.assert_close(value, reference.state_dict()[key], rtol=1e-2, atol=1e-3)


def test_history_holds_one_entry_per_step_and_on_step_sees_each():
    seen = []
    _, history = run(on_step=seen.append)
    assert seen == history
    assert [m.step for m in history] == list(range(1, 31))
    assert [m.learning_rate for m in history] == [learning_rate_at(s, CONFIG) for s in range(30)]
    assert all(m.seconds > 0 for m in history)
    assert history[0].logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_logit_scale_stays_within_its_bounds():
    config = TrainConfig(batch_size=16, steps=5, learning_rate=5.0, weight_decay=0.0)

    class Pull(torch.nn.Module):
        """A loss that wants nothing but another scale."""

        def __init__(self, direction):
            super().__init__()
            self.direction = direction

        def forward(self, image_features, text_features, logit_scale):
            return self.direction * logit_scale + 0.0 * (image_features + text_features).sum()

    for direction, bound in ((-1, 100.0), (1, 1.0)):
        model, _ = run(config, loss=Pull(direction))
        assert model.logit_scale.exp().item() == pytest.approx(bound, rel=1e-5)


def test_gradient_clipping_bounds_the_norm():
    norms = []

    class Watched(torch.optim.SGD):
        def step(self):
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(torch.nn.utils.get_total_norm(grads).item())

    for limit in (None, 1e-3):
        model = CLIP(MODEL)
        config = TrainConfig(batch_size=16, steps=1, grad_clip_norm=limit)
        train(model, Watched(model.parameters(), lr=0.1), ClipLoss(), [one_batch()], config)
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_batches_that_end_early_raise():
    with pytest.raises(ValueError, match="ended after 2 of 30 steps"):
        run(batches=[one_batch()] * 2)


def test_loss_that_is_not_finite_raises_before_it_reaches_the_weights():
    images, tokens = one_batch()
    torch.manual_seed(0)
    model = CLIP(MODEL)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config = TrainConfig(batch_size=16, steps=1)
    with pytest.raises(FloatingPointError, match="nan"):
        train(
            model, make_optimizer(model, config), ClipLoss(), [(images * math.nan, tokens)], config
        )
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
