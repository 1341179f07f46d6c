"""What integrations check by themselves, with stand-ins of their hosts."""

import pickle
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fastclip
from fastclip.integrations.accelerate import AcceleratedScale, cached_step
from fastclip.integrations.lightning import OF_DDP, ContrastiveLightningMixin
from fastclip.integrations.transformers import ContrastiveTrainerMixin, _sides
from fastclip.train.step.second_encoding import coarsest


class Doubles:
    def scale(self, loss):
        return loss * 1024


@pytest.mark.parametrize(
    ("steps", "scaler", "parts", "expected"),
    [(1, None, 1, 8.0), (4, None, 1, 2.0), (1, None, 2, 4.0), (2, Doubles(), 4, 1024.0)],
)
def test_loss_is_scaled_as_by_accelerators_backward(steps, scaler, parts, expected):
    accelerator = SimpleNamespace(gradient_accumulation_steps=steps, scaler=scaler)
    scale = AcceleratedScale(accelerator, lambda: parts)
    assert scale.scale(torch.tensor(8.0)).item() == expected


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "TP"])
def test_models_without_whole_weights_are_refused(kind):
    accelerator = SimpleNamespace(distributed_type=SimpleNamespace(value=kind))
    with pytest.raises(ValueError, match=f"distributed_type must be NO or MULTI_..., got {kind}"):
        cached_step(accelerator, nn.Linear(2, 2), fastclip.ClipLoss(), 2)


def test_cached_step_has_the_accelerators_autocast_around_it():
    accelerator = SimpleNamespace(distributed_type="NO", autocast=lambda: torch.autocast("cpu"))
    model = nn.Linear(2, 2)
    step = cached_step(accelerator, model, fastclip.ClipLoss(), 2)
    with step.autocast():
        assert coarsest(model, {"image_features": torch.zeros(1)}) == torch.bfloat16


class Trainer:
    """The attributes of transformers' Trainer that the mixin looks at."""

    def __init__(self, model, compute_loss_func=None, world_size=1, kind="NO", **args):
        given = {
            "label_smoothing_factor": 0.0, "label_names": None, "n_gpu": 0, "optim": "adamw_torch",
            "accelerator_config": SimpleNamespace(even_batches=True), "world_size": world_size,
            "torch_empty_cache_steps": None, "gradient_accumulation_steps": 1,
            "per_device_train_batch_size": 8,
        }  # fmt: skip
        self.args = SimpleNamespace(**given | args)
        self.model, self.compute_loss_func = model, compute_loss_func
        self.accelerator = SimpleNamespace(
            distributed_type=SimpleNamespace(value=kind), autocast=nullcontext
        )

    def prediction_step(self, model, inputs, prediction_loss_only):
        return inputs, prediction_loss_only


class Ours(ContrastiveTrainerMixin, Trainer):
    pass


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.1))


UNEVEN = SimpleNamespace(even_batches=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute_loss_func": print}, "compute_loss_func must be given as contrastive_loss"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor must be 0, .*got 0.1"),
        ({"label_names": ["y"]}, r"label_names must be None, .*got \['y'\]"),
        ({"n_gpu": 2}, "n_gpu must be at most 1: start one process per GPU.*got 2"),
        ({"contrastive_loss": Learned()}, "contrastive_loss must have no parameters.*'Learned'"),
        ({"world_size": 2, "accelerator_config": UNEVEN}, "even_batches must be True.*got False"),
        ({"micro_batch_size": 2, "torch_empty_cache_steps": 5}, "torch_empty_cache_steps must"),
        ({"micro_batch_size": 2, "optim": "lomo"}, "optim must be another.*got 'lomo'"),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1, got 0"),
        ({"micro_batch_size": 2, "activation_budget": "much"}, "much"),
        ({"activation_budget": "1GiB"}, "activation_budget='1GiB' needs a micro_batch_size"),
        ({"kind": "FSDP"}, "distributed_type must be NO or MULTI_..., got FSDP"),
    ],
)
def test_what_the_trainer_cannot_obey_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        Ours(nn.Linear(2, 2), **options)


def test_subclass_that_claims_a_scaled_loss_is_refused():
    class Wrong(Ours):
        loss_is_scaled_for_ga = True

    with pytest.raises(ValueError, match=r"loss_is_scaled_for_ga must be False, .*got True"):
        Wrong(nn.Linear(2, 2))


def test_loss_is_that_of_the_model():
    model = nn.Linear(2, 2)
    assert type(Ours(model).contrastive_loss) is fastclip.ClipLoss
    model.logit_bias = nn.Parameter(torch.zeros(1))
    assert type(Ours(model).contrastive_loss) is fastclip.SigLipLoss
    with pytest.warns(UserWarning, match=r"steps=4 gives no pair more negatives.*=8 .*CachedStep"):
        Ours(model, gradient_accumulation_steps=4)


def test_inputs_are_cut_into_sides_and_what_has_no_rows_is_refused():
    pixels, tokens = torch.zeros(3, 3, 2, 2), torch.zeros(3, 4)
    images, texts = _sides(
        {"pixel_values": pixels, "input_ids": tokens, "attention_mask": tokens,
         "return_loss": True, "position_ids": None}
    )  # fmt: skip
    assert list(images) == ["pixel_values"] and list(texts) == ["input_ids", "attention_mask"]
    with pytest.raises(ValueError, match=r"inputs\['size'\] must be a tensor with a row per pair"):
        _sides({"pixel_values": pixels, "input_ids": tokens, "size": 3})
    with pytest.raises(ValueError, match=r"input_ids and pixel_values, got \['input_ids'\]"):
        _sides({"input_ids": tokens})
    with pytest.raises(ValueError, match="inputs must not have 'labels'"):
        _sides({"pixel_values": pixels, "input_ids": tokens, "labels": torch.zeros(3)})


def test_what_a_batch_asks_the_model_to_return_is_dropped():
    """Of a data set (`return_loss`) and of the Trainer with Liger's kernels (`skip_logits`)."""
    pixels, tokens = torch.zeros(3, 3, 2, 2), torch.zeros(3, 4)
    inputs = {"pixel_values": pixels, "input_ids": tokens}
    images, texts = _sides(inputs | {"skip_logits": True, "return_loss": False})
    assert [*images, *texts] == list(inputs)
    trainer = Ours(nn.Linear(2, 2))
    found, loss_only = trainer.prediction_step(None, inputs | {"return_loss": False}, True)
    assert list(found) == list(inputs) and loss_only is True


class Captioned(nn.Module):
    """Returns what a captioning loss takes by name, and wants nothing else."""

    def forward(self, images, texts):
        ones = torch.ones(len(images))
        return {"image_features": images, "text_features": texts, "logit_scale": torch.tensor(2.0),
                "caption_losses": 3 * ones, "caption_tokens": ones}  # fmt: skip


def captioning(*, image_features, text_features, logit_scale, caption_losses, caption_tokens):
    terms = {"contrastive": logit_scale, "captions": caption_losses.sum() / caption_tokens.sum()}
    return terms, "statistics"


def test_evaluations_call_a_loss_as_a_cached_step_does():
    """By name for captions, with terms that are added up, and with statistics beside them."""
    model = Captioned()
    trainer = Ours(model, contrastive_loss=captioning)
    inputs = {"pixel_values": torch.ones(3, 2), "input_ids": torch.ones(3, 2)}
    loss, outputs = trainer.compute_loss(model, inputs, return_outputs=True)
    assert loss.item() == 5.0 and list(outputs) == ["image_embeds", "text_embeds"]
    module = Module(micro_batch_size=2, contrastive_loss=captioning)
    module.device, module.forward, logged = torch.device("cpu"), model.forward, []
    module.all_gather, module.log = lambda x: x, lambda name, *_, **options: logged.append(name)
    assert module.validation_step((torch.ones(3, 2), torch.ones(3, 2)), 0).item() == 5.0
    assert logged == ["val_loss"]


class Module(ContrastiveLightningMixin, nn.Module):
    """nn.Module stands for LightningModule, which is one."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1, got 0"),
        ({"micro_batch_size": 2, "max_logit_scale": 0.5}, "max_logit_scale must be .*got 0.5"),
        ({"micro_batch_size": 2, "activation_budget": "much"}, "much"),
    ],
)
def test_lightning_mixin_refuses_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        Module(**options)


def test_lightning_mixin_takes_pairs_alone_and_can_be_pickled():
    module = Module(micro_batch_size=2)
    assert module.automatic_optimization is False
    assert module.images_and_texts([1, 2]) == (1, 2)
    with pytest.raises(ValueError, match=r"must be \(images, texts\), got dict"):
        module.images_and_texts({"pixel_values": 1})
    twin = pickle.loads(pickle.dumps(module))
    assert twin._step.model is twin and twin._step.micro_batch_size == 2


def module_with(strategy, schedulers=()):
    """A module whose Trainer has what the mixin looks at."""
    module = Module(micro_batch_size=2)
    module.optimizers = lambda: None
    module.trainer = SimpleNamespace(
        strategy=strategy, precision="32-true", accumulate_grad_batches=1,
        lr_scheduler_configs=[SimpleNamespace(scheduler=s) for s in schedulers],
    )  # fmt: skip
    return module


class DDPStrategy:
    def __init__(self, **options):
        self.__dict__.update({f"_{name}": value for name, value in options.items()})


@pytest.mark.parametrize("name", OF_DDP)
def test_options_of_ddp_that_have_no_effect_are_refused(name):
    module_with(DDPStrategy(**{name: None}))._require_obeyed()
    with pytest.raises(ValueError, match=rf"strategy must be without .*got \['{name}'\]"):
        module_with(DDPStrategy(**{name: print}))._require_obeyed()


class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """Waits for a metric under another name."""


def test_schedulers_that_wait_are_known_by_their_class_and_others_are_stepped_by_the_hook():
    with pytest.raises(ValueError, match=r"waits for a metric, got \['Plateau'\]"):
        module_with(DDPStrategy(), [Plateau.__new__(Plateau)])._require_obeyed()
    module, found = Module(micro_batch_size=2), []
    module.trainer = SimpleNamespace(
        lr_scheduler_configs=[SimpleNamespace(interval="step", frequency=2, scheduler="of step")]
    )
    module.lr_scheduler_step = lambda scheduler, metric: found.append((scheduler, metric))
    for batch_idx in range(3):
        module._step_schedulers(batch_idx)
    assert found == [("of step", None)]
