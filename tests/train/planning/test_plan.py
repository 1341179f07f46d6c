"""What `fastclip plan` counts, against what is measured."""

from dataclasses import replace

import pytest
import torch

from fastclip.cli import main
from fastclip.models.precision import set_precision
from fastclip.models.presets import PRESETS
from fastclip.models.registry import architectures
from fastclip.train.memory.activation_budget import GIB, measure_kept
from fastclip.train.planning.plan import forward_flops_per_pair, make_plan
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.optimizer import make_optimizer
from fastclip.train.weights.masters import MasterWeights
from tests.support.small_models import SHALLOW, SMALL, build, inputs


@pytest.fixture(scope="module")
def of_vit_b_32():
    return make_plan(PRESETS["ViT-B-32"], 32768, 24 * GIB)


@pytest.mark.parametrize(
    "name, precision",
    [
        ("vit", "fp32"), ("vit", "amp_bf16"), ("quick_gelu", "fp32"), ("siglip", "amp_bf16"),
        ("resnet", "amp_bf16"), ("avg", "fp32"),
    ],
)  # fmt: skip
def test_counted_graphs_are_the_measured_ones(name, precision):
    config = SHALLOW[name]
    plan = make_plan(config, 16, GIB, precision=precision)
    model = build(config).train()
    for size in (1, 8):
        images, tokens = inputs(config, size)

        def forward(images=images, tokens=tokens):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp_bf16"):
                return model(images, tokens)

        _, measured = measure_kept(forward, [*model.parameters(), images, tokens])
        assert plan.graph(size) == pytest.approx(measured, rel=0.02)


def test_checkpointing_keeps_less():
    plain, less = (
        make_plan(SMALL["vit"], 64, GIB, grad_checkpointing=on).graph(64) for on in (False, True)
    )
    assert less < plain / 2


def test_largest_micro_batch_that_fits_is_recommended_with_what_is_left(of_vit_b_32):
    plan = of_vit_b_32
    best = plan.micro_batch_size
    assert plan.peak(best) <= 0.9 * 24 * GIB < plan.peak(2 * best)
    assert plan.kept(2 * best) == -1
    for size in plan.sizes:
        if (kept := plan.kept(size)) >= 0:
            assert plan.peak(size) + kept * plan.graph(size) <= 0.9 * 24 * GIB


def test_figures_of_vit_b_32_are_those_of_its_paper_and_ours(of_vit_b_32):
    assert of_vit_b_32.weights == 16 * 151_277_313
    assert of_vit_b_32.pixels == 32768 * 3 * 224 * 224
    # 14.8 GFLOP, less ten twelfths of the last block of each tower.
    assert forward_flops_per_pair(PRESETS["ViT-B-32"]) == pytest.approx(13.8e9, rel=0.03)


def test_ranks_share_pixels_and_ring_shares_features():
    one, four = (make_plan(SMALL["vit"], 4096, GIB, world_size=W) for W in (1, 4))
    ring = make_plan(SMALL["vit"], 4096, GIB, world_size=4, schedule="ring")
    assert four.pixels == one.pixels // 4
    assert ring.features < four.features < one.features
    assert ring.loss < four.loss == one.loss


def test_everything_kept_is_a_plain_step():
    plan = make_plan(SMALL["vit"], 64, 100 * GIB)
    assert plan.micro_batch_size == 64 and plan.kept(64) == 1


def test_masters_are_counted_as_they_are_held():
    """Of bf16: weights, masters, AdamW's averages, and the gradients that the masters get."""
    model = set_precision(build(SMALL["vit"]), "bf16")
    in_16_bits = sum(p.numel() for p in model.parameters() if p.dtype == torch.bfloat16)
    others = sum(p.numel() for p in model.parameters()) - in_16_bits
    assert in_16_bits > 10_000 and others > 100
    masters = MasterWeights(model.named_parameters())
    optimizer = make_optimizer(model, StepConfig(batch_size=2, steps=1), masters)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    masters.take_gradients()
    optimizer.step()
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    moments = [s[name] for s in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    held = [*model.parameters(), *stepped, *[p.grad for p in stepped], *moments]
    held = sum({id(tensor): tensor.nbytes for tensor in held}.values())

    def plan(**settings):
        return make_plan(SMALL["vit"], 64, GIB, precision="bf16", **settings)

    assert plan().weights == held == 18 * in_16_bits + 16 * others
    assert plan(is_averaged=True).weights == held + 4 * (in_16_bits + others)
    keys, plain = plan(is_averaged=True, has_key_encoder=True), plan()
    assert keys.weights == held + 8 * (in_16_bits + others)
    assert keys.features == 1.5 * plain.features
    frozen = plan(lock=lambda model: model.requires_grad_(False))
    assert frozen.weights == 2 * in_16_bits + 4 * others


@pytest.mark.parametrize("precision, bytes_of_weight", [("fp32", 4), ("pure_bf16", 2)])
def test_weights_count_what_is_trained_and_averaged(precision, bytes_of_weight):
    config = SMALL["vit"]
    num = sum(p.numel() for p in build(config).parameters())
    plan = make_plan(config, 64, GIB, precision=precision)
    assert plan.weights == 4 * bytes_of_weight * num
    averaged = make_plan(config, 64, GIB, precision=precision, is_averaged=True)
    assert averaged.weights == 4 * bytes_of_weight * num + 4 * num  # averages are float32
    locked = make_plan(config, 64, GIB, lock=lambda model: model.lock_image_tower())
    num_image = sum(p.numel() for p in build(config).visual.parameters())
    assert locked.weights == 16 * num - 12 * num_image
    sharded = make_plan(config, 64, GIB, world_size=4, precision=precision, is_sharded=True)
    assert sharded.weights == bytes_of_weight * num + 3 * bytes_of_weight * num // 4
    assert locked.graph(8) < plan.graph(8)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(global_batch_size=0), "global_batch_size must be .*, got 0 and 1"),
        (dict(global_batch_size=3, world_size=4), "at least world_size, .*, got 3 and 4"),
        (dict(global_batch_size=3, precision="fp8"), "'fp8'"),
    ],
)
def test_impossible_plans_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        make_plan(SMALL["vit"], memory=GIB, **settings)


def test_command_prints_the_arithmetic(monkeypatch, capsys):
    monkeypatch.setitem(architectures, "Small", SMALL["vit"])
    assert main(["plan", "--model", "Small", "--global-batch-size", "4096", "--ranks", "2"]) == 0
    out = capsys.readouterr().out
    assert "4,096 = 2 x 1 x 2,048 (ranks x micro-batches x size)" in out
    assert "--micro-batch-size 2048 --activation-budget" in out and "counted, not measured" in out


def test_command_says_what_to_try_where_nothing_fits(monkeypatch, capsys):
    monkeypatch.setitem(architectures, "Small", SMALL["vit"])
    assert main(["plan", "--model", "Small", "--gpu-memory", "4MiB"]) == 1
    assert "nothing fits: try --grad-checkpointing" in capsys.readouterr().out
    assert main(["plan", "--model", "ViT-L-15"]) == 2
    assert "similar names are ViT-L-16, ViT-L-14" in capsys.readouterr().err
    assert main(["plan", "--model", "ViT-L-14", "--gpu-memory", "much"]) == 2
    assert "--gpu-memory must be a number of bytes" in capsys.readouterr().err


def test_plan_without_a_vocabulary_is_made_and_says_what_a_run_will_need(
    no_vocabulary, monkeypatch, capsys
):
    text = replace(SMALL["vit"].text_cfg, vocab_size=49408)
    monkeypatch.setitem(architectures, "Small", replace(SMALL["vit"], text_cfg=text))
    assert main(["plan", "--model", "Small", "--global-batch-size", "64"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Small, 64 pairs in one loss")
    assert "fastclip train needs a vocabulary: OpenAI's vocabulary of CLIP is not" in captured.err
