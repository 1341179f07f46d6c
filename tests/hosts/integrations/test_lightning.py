"""Lightning's own Trainer around cached steps: gradients, ranks, precision, schedulers, resumes."""

import copy
import functools
import warnings

import pytest
import torch
from torch.utils.data import DataLoader

from fastclip.integrations.lightning import OF_DDP, ContrastiveLightningMixin
from fastclip.train.step.model_call import call
from tests.hosts.integrations.models import (
    Pairs,
    as_a_rank,
    check_gradients,
    loss_and_gradients,
    loss_of,
    make,
)

pytestmark = pytest.mark.filterwarnings("default")
lightning = pytest.importorskip("lightning.pytorch")
CUT = 2
HALVES = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)


class Clip(ContrastiveLightningMixin, lightning.LightningModule):
    """Keeps the gradients of every step."""

    def __init__(
        self, name="clip", schedule=None, optimizer=torch.optim.SGD, scheduler=HALVES, **options
    ):
        super().__init__(**{"micro_batch_size": CUT, "contrastive_loss": None} | options)
        self.net = make(name)
        self.schedule, self.optimizer, self.gradients = schedule, optimizer, []
        self.scheduler = scheduler

    def forward(self, images, texts):
        # As a dict by open_clip's names, of a model of transformers'.
        return call(self.net, {"pixel_values": images}, {"input_ids": texts})

    def on_before_optimizer_step(self, optimizer):
        named = self.net.named_parameters()
        self.gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters(), lr=1e-2)
        if self.schedule is None:
            return optimizer
        return [optimizer], [{"scheduler": self.scheduler(optimizer), **self.schedule}]


class Other(lightning.strategies.SingleDeviceStrategy):
    """One that the mixin does not know."""


def loader(num, size, rank=0, world_size=1, dtype=torch.float64):
    """Batches in order; a rank has every other batch."""
    pairs = Pairs(num)
    samples = [(pairs.images[i].to(dtype), pairs.tokens[i]) for i in range(num)]
    batches = range(0, num, size)
    own = [i for k, start in enumerate(batches) if k % world_size == rank
           for i in range(start, min(start + size, num))]  # fmt: skip
    return DataLoader(torch.utils.data.Subset(samples, own), batch_size=size)


def trainer_of(place, **options):
    settings = {
        "accelerator": "cpu", "devices": 1, "max_epochs": 1, "logger": False,
        "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": str(place),
    }  # fmt: skip
    return lightning.Trainer(**settings | options)


def expected_of(num):
    return loss_and_gradients("clip", make("clip"), Pairs(num), [slice(0, num)])


def test_a_step_is_that_of_the_whole_batch(tmp_path):
    module = Clip()
    trainer = trainer_of(tmp_path)
    trainer.fit(module, loader(5, 5), loader(5, 3))
    loss, expected = expected_of(5)
    check_gradients(module.gradients[0], expected)
    assert trainer.callback_metrics["train_loss"] == pytest.approx(loss, rel=1e-5)
    parts = [loss_and_gradients("clip", module.net, Pairs(5), [rows])[0]
             for rows in (slice(0, 3), slice(3, 5))]  # fmt: skip
    found = trainer.callback_metrics["val_loss"].item()
    assert found == pytest.approx((3 * parts[0] + 2 * parts[1]) / 5, rel=1e-5)
    assert trainer.global_step == 1


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_leaves_the_loss_in_float32(tmp_path, precision):
    seen = []

    def loss(*features):
        seen.append(torch.is_autocast_enabled("cpu"))
        return loss_of("clip")(*(x.float() for x in features))

    module = Clip(contrastive_loss=loss)
    module.net.float()
    # By its plugin, as Lightning gives a CPU bfloat16 where it is asked for float16.
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if precision == "16-mixed" else None
    plugin = lightning.plugins.MixedPrecision(precision, "cpu", scaler)
    trainer_of(tmp_path, plugins=plugin).fit(module, loader(6, 6, dtype=torch.float32))
    _, expected = expected_of(6)
    check_gradients(module.gradients[0], expected, rtol=0.1)
    assert seen == [False]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [({"interval": "step", "frequency": 1}, [0.5, 0.25, 0.125, 0.0625]),
     ({"interval": "step", "frequency": 2}, [1, 0.5, 0.5, 0.25]),
     ({"interval": "epoch", "frequency": 1}, [1, 0.5, 0.5, 0.25])],
)  # fmt: skip
def test_schedulers_are_stepped(tmp_path, schedule, rates):
    found = []

    class Noted(Clip):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            found.append(self.optimizers().param_groups[0]["lr"] / 1e-2)

    trainer_of(tmp_path, max_epochs=2).fit(Noted(schedule=schedule), loader(4, 2))
    assert found == pytest.approx(rates)


def test_scale_is_limited_and_may_be_left_alone(tmp_path):
    for limit, expected in ((5.0, 5.0), (None, 7.389)):
        module = Clip(max_logit_scale=limit)
        trainer_of(tmp_path).fit(module, loader(4, 4))
        assert module.net.logit_scale.exp().item() == pytest.approx(expected, rel=0.05)
        assert limit is None or module.net.logit_scale.exp().item() <= limit * (1 + 1e-12)


def test_a_run_that_is_resumed_goes_on_as_it_was(tmp_path):
    """With moments, schedule and a budget that was measured."""
    options = {"optimizer": torch.optim.AdamW, "schedule": {"interval": "step", "frequency": 1},
               "activation_budget": "auto"}  # fmt: skip
    whole = Clip(**options)
    trainer_of(tmp_path, max_epochs=2).fit(whole, loader(6, 3))
    first = trainer_of(tmp_path)
    first.fit(Clip(**options), loader(6, 3))
    first.save_checkpoint(tmp_path / "half.ckpt")
    rest = Clip(**options)
    trainer_of(tmp_path, max_epochs=2).fit(rest, loader(6, 3), ckpt_path=tmp_path / "half.ckpt")
    assert len(rest.gradients) == 2 and rest._step.kept_bytes == whole._step.kept_bytes
    for found, expected in zip(rest.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("module_options", "options", "message"),
    [
        ({}, {"accumulate_grad_batches": 2}, "accumulat"),
        ({}, {"gradient_clip_val": 1.0}, "clipping is not supported for manual optimization"),
        ({}, {"callbacks": [lightning.callbacks.GradientAccumulationScheduler({0: 2})]},
         "accumulat"),
        ({}, {"precision": "bf16-true"}, "precision must be one of .*got 'bf16-true'"),
        ({}, {"strategy": Other(device=torch.device("cpu"))}, "strategy must be one of .*'Other'"),
        ({"schedule": {}, "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau}, {},
         r"lr_scheduler must be none that waits for a metric, got \['ReduceLROnPlateau'\]"),
    ],
)  # fmt: skip
def test_what_it_cannot_obey_is_refused(tmp_path, module_options, options, message):
    module = Clip(**module_options)
    with pytest.raises(Exception, match=message):
        trainer_of(tmp_path, **options).fit(module, loader(4, 4))


def test_options_of_ddp_are_kept_where_the_mixin_looks_for_them():
    strategy = lightning.strategies.DDPStrategy(**dict.fromkeys(OF_DDP, 3))
    assert [vars(strategy)[f"_{name}"] for name in OF_DDP] == [3] * len(OF_DDP)


def test_the_hook_of_schedulers_is_called(tmp_path):
    found = []

    class Hooked(Clip):
        def lr_scheduler_step(self, scheduler, metric):
            found.append(metric)

    module = Hooked(schedule={"interval": "step"})
    trainer_of(tmp_path).fit(module, loader(4, 2))
    assert found == [None, None]


def test_a_module_can_be_copied(tmp_path):
    module = Clip()
    twin = copy.deepcopy(module)
    assert twin._step.model is twin and twin._step is not module._step
    trainer_of(tmp_path).fit(twin, loader(5, 5))
    assert twin.gradients and not module.gradients


def train_a_rank(group, place, strategy, size, budget):
    """The gradients of two steps, the loss, and how many all-reduces had all parameters."""
    as_a_rank(group)
    warnings.simplefilter("ignore")
    import torch.distributed as dist

    from tests.hosts.integrations import test_lightning

    module = test_lightning.Clip(activation_budget=budget)
    num = sum(p.numel() for p in module.parameters())
    large = []

    def counted(tensor, *args, **options):
        large.append(tensor.numel() >= num // 2)
        return all_reduce(tensor, *args, **options)

    from lightning.pytorch.plugins.environments import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    trainer = test_lightning.trainer_of(
        place, devices=2, use_distributed_sampler=False,
        strategy=DDPStrategy(cluster_environment=TorchElasticEnvironment(), **strategy),
    )  # fmt: skip
    all_reduce, dist.all_reduce = dist.all_reduce, counted
    try:
        # The last validation batch has fewer pairs on the second rank.
        trainer.fit(
            module, test_lightning.loader(4 * size, size, group.rank(), 2),
            test_lightning.loader(2 * size - 1, size, group.rank(), 2),
        )  # fmt: skip
    finally:
        dist.all_reduce = all_reduce
    losses = [trainer.callback_metrics[name].item() for name in ("train_loss", "val_loss")]
    return module.gradients, losses, sum(large)


@pytest.mark.parametrize(
    ("strategy", "budget"),
    [({}, 0), ({"static_graph": True}, "unlimited"), ({"find_unused_parameters": True}, 0)],
)
def test_two_ranks_take_the_step_of_one_process(two_ranks, tmp_path, strategy, budget):
    """And not steps of their own, as a cached step that nobody synchronises would."""
    size = 3
    found = two_ranks.run(2, train_a_rank, str(tmp_path), strategy, size, budget)
    model = make("clip")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for step in range(2):
        optimizer.zero_grad()
        rows = slice(step * 2 * size, (step + 1) * 2 * size)
        loss, expected = loss_and_gradients("clip", model, Pairs(4 * size), [rows])
        for gradients, _, _ in found:
            check_gradients(gradients[step], expected)
        optimizer.step()
    val_loss, _ = loss_and_gradients("clip", model, Pairs(2 * size - 1), [slice(0, 2 * size - 1)])
    for gradients, losses, num_large in found:
        assert len(gradients) == 2 and losses == pytest.approx([loss, val_loss], rel=1e-5)
        assert num_large == 2  # one a step, whatever the number of micro-batches
