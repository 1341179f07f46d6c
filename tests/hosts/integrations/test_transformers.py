"""transformers' own Trainer with the loss over all ranks: gradients, accumulation, evaluation."""

import pickle
import warnings

import pytest
import torch

from fastclip.integrations import transformers as ours
from tests.hosts.integrations.models import (
    Pairs,
    as_a_rank,
    check_gradients,
    loss_and_gradients,
    loss_of,
    make,
)

pytestmark = pytest.mark.filterwarnings("default")
transformers = pytest.importorskip("transformers")
RATE = 0.01
ACCUMULATES = "gives no pair more negatives"


class Kept(torch.optim.SGD):
    """Keeps the gradients of its first step, before they are taken."""

    def step(self, closure=None):
        self.gradients = [
            None if p.grad is None else p.grad.clone() for p in self.param_groups[0]["params"]
        ]
        return super().step(closure)


def arguments(place, **options):
    return transformers.TrainingArguments(
        str(place), use_cpu=True, max_steps=1, max_grad_norm=0.0, report_to=[], save_strategy="no",
        logging_strategy="steps", logging_steps=1, disable_tqdm=True, seed=0, **options,
    )  # fmt: skip


def trainer_of(place, name, num_pairs, kind=None, trainer_options=None, **options):
    model = make(name)
    optimizer = Kept(model.parameters(), lr=RATE)
    kind = kind or ours.ContrastiveTrainer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = kind(
            model=model, args=arguments(place, **options), train_dataset=Pairs(num_pairs),
            eval_dataset=Pairs(num_pairs), optimizers=(optimizer, None), **(trainer_options or {}),
        )  # fmt: skip
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(range(num_pairs))
    return trainer, model, optimizer


def trained(place, name, num_pairs, evaluate=False, **options):
    """One step of the optimiser: its loss as it is logged, with that of an evaluation after it if
    asked, and the gradients that it took."""
    trainer, model, optimizer = trainer_of(place, name, num_pairs, **options)
    trainer.train()
    logged = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    names = [n for n, _ in model.named_parameters()]
    losses = [logged, trainer.evaluate()["eval_loss"]] if evaluate else [logged]
    return losses, dict(zip(names, optimizer.gradients, strict=True))


@pytest.mark.parametrize(
    ("name", "accumulated", "cut"),
    [("clip", 1, None), ("clip", 4, None), ("clip", 2, 3), ("siglip", 1, 3), ("siglip", 2, None),
     ("siglip", 4, 2), ("dual", 1, 4), ("dual", 2, None)],
)  # fmt: skip
def test_the_gradient_is_the_mean_over_accumulated_batches(tmp_path, name, accumulated, cut):
    size = 5
    pairs = Pairs(size * accumulated)
    options = {"trainer_options": {"micro_batch_size": cut}} if cut else {}
    (loss,), gradients = trained(
        tmp_path, name, len(pairs), per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulated, **options,
    )  # fmt: skip
    batches = [slice(i * size, (i + 1) * size) for i in range(accumulated)]
    expected_loss, expected = loss_and_gradients(name, make(name), pairs, batches)
    check_gradients(gradients, expected)
    assert loss == pytest.approx(expected_loss, rel=1e-4)


def test_the_trap_that_it_avoids_is_there(tmp_path):
    """`compute_loss_func` gives four times the gradient: if this fails, the docs are too dark."""
    from fastclip.train.step.model_call import _named

    model = make("clip")

    def by_function(outputs, labels, num_items_in_batch=None):
        return loss_of("clip")(*_named(outputs, model).values())

    size, accumulated = 5, 4
    kind = transformers.Trainer
    trainer, model, optimizer = trainer_of(
        tmp_path, "clip", size * accumulated, kind, {"compute_loss_func": by_function},
        per_device_train_batch_size=size, gradient_accumulation_steps=accumulated,
    )  # fmt: skip
    trainer.train()
    names = [n for n, _ in model.named_parameters()]
    batches = [slice(i * size, (i + 1) * size) for i in range(accumulated)]
    _, right = loss_and_gradients("clip", make("clip"), Pairs(size * accumulated), batches)
    found = dict(zip(names, optimizer.gradients, strict=True))
    name = "visual_projection.weight"
    torch.testing.assert_close(found[name], 4 * right[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("cut", [None, 2])
def test_evaluation_has_a_loss_and_features_with_an_uneven_last_batch(tmp_path, cut):
    trainer, model, _ = trainer_of(
        tmp_path, "clip", 8, trainer_options={"micro_batch_size": cut, "compute_metrics": shapes},
        per_device_eval_batch_size=5,
    )  # fmt: skip
    found = trainer.evaluate()
    losses = [loss_and_gradients("clip", model, Pairs(8), [rows])[0]
              for rows in (slice(0, 5), slice(5, 8))]  # fmt: skip
    assert found["eval_loss"] == pytest.approx((5 * losses[0] + 3 * losses[1]) / 8, rel=1e-5)
    assert found["eval_images"] == found["eval_texts"] == (8, 16)


def test_evaluation_has_a_loss_whatever_the_batch_or_the_kernels_ask_for(tmp_path):
    trainer, model, _ = trainer_of(tmp_path, "clip", 4)
    expected, _ = loss_and_gradients("clip", model, Pairs(4), [slice(0, 4)])
    trainer.args.use_liger_kernel = True  # adds skip_logits; set late, as it needs a package
    trainer.data_collator = without_loss
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def without_loss(samples):
    return transformers.default_data_collator(samples) | {"return_loss": False}


def shapes(prediction):
    images, texts = prediction.predictions
    return {"images": images.shape, "texts": texts.shape}


def test_bfloat16_leaves_the_loss_in_float32(tmp_path):
    size = 6
    seen = []

    def loss(*features):
        seen.append([x.dtype for x in features])
        return loss_of("clip")(*features)

    for cut in (None, 4):
        trainer, model, optimizer = trainer_of(
            tmp_path, "clip", size, bf16=True, per_device_train_batch_size=size,
            trainer_options={"micro_batch_size": cut, "contrastive_loss": loss},
        )  # fmt: skip
        model.float()
        trainer.data_collator = as_float32
        trainer.train()
        names = [n for n, _ in model.named_parameters()]
        gradients = dict(zip(names, optimizer.gradients, strict=True))
        _, expected = loss_and_gradients("clip", make("clip"), Pairs(size), [slice(0, size)])
        check_gradients(gradients, expected, rtol=0.1)
    assert len(seen) == 2 and {dtype for dtypes in seen for dtype in dtypes} == {torch.float32}


def as_float32(samples):
    batch = transformers.default_data_collator(samples)
    return batch | {"pixel_values": batch["pixel_values"].float()}


def test_arguments_and_names():
    kind = ours.ContrastiveTrainer
    assert pickle.loads(pickle.dumps(kind)) is kind and issubclass(kind, transformers.Trainer)


@pytest.mark.parametrize(
    ("trainer_options", "options", "message"),
    [
        ({"compute_loss_func": shapes}, {}, "compute_loss_func must be given as contrastive_loss"),
        ({}, {"label_smoothing_factor": 0.1}, "label_smoothing_factor must be 0"),
        ({}, {"label_names": ["labels"]}, "label_names must be None"),
        ({"contrastive_loss": torch.nn.Linear(2, 2)}, {}, "must have no parameters.*'Linear'"),
        ({"micro_batch_size": 0}, {}, "micro_batch_size must be at least 1, got 0"),
        ({"activation_budget": "1GiB"}, {}, "activation_budget='1GiB' needs a micro_batch_size"),
        ({"micro_batch_size": 2}, {"torch_empty_cache_steps": 1}, "torch_empty_cache_steps must"),
    ],
)
def test_what_it_cannot_obey_is_refused_by_name(tmp_path, trainer_options, options, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, "clip", 4, trainer_options=trainer_options, **options)


def test_accumulation_warns_that_it_adds_no_negatives(tmp_path):
    with pytest.warns(UserWarning, match=ACCUMULATES):
        ours.ContrastiveTrainer(make("clip"), arguments(tmp_path, gradient_accumulation_steps=2))


def train_a_rank(group, place, name, accumulated, cut, size):
    as_a_rank(group)
    warnings.simplefilter("ignore")
    from tests.hosts.integrations import test_transformers

    return test_transformers.trained(
        place, name, size * accumulated * 2, evaluate=True, per_device_train_batch_size=size,
        per_device_eval_batch_size=size, gradient_accumulation_steps=accumulated,
        ddp_backend="gloo", trainer_options={"micro_batch_size": cut},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "accumulated", "cut"), [("clip", 1, None), ("siglip", 2, 2), ("dual", 2, None)]
)
def test_two_ranks_are_one_batch(two_ranks, tmp_path, name, accumulated, cut):
    """Accelerate deals batches out in turns: a global batch is what two batches in a row have."""
    size = 3
    found = two_ranks.run(2, train_a_rank, str(tmp_path), name, accumulated, cut, size)
    pairs = Pairs(size * accumulated * 2)
    batches = [slice(i * 2 * size, (i + 1) * 2 * size) for i in range(accumulated)]
    model = make(name)
    loss, expected = loss_and_gradients(name, model, pairs, batches)
    Kept(model.parameters(), lr=RATE).step()
    after, _ = loss_and_gradients(name, model, pairs, batches)
    for losses, gradients in found:
        check_gradients(gradients, expected)
        assert losses == pytest.approx([loss, after], rel=1e-4)
    assert abs(after - loss) > 2e-4 * loss
