"""The gradient of a batch in micro-batches, against that of the batch at once, in float64."""

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn

from fastclip import ClipLoss, SigLipLoss, TwoTower
from fastclip.models.clip import CLIP
from fastclip.models.padding import without_padding
from fastclip.models.parts.patch_dropout import PatchDropout
from fastclip.train.step.cached import CachedStep, cached_step
from tests.support.small_models import SHALLOW, build, inputs

B, MICRO = 10, 3  # four micro-batches, the last of one sample


class Dropped(nn.Module):
    """A model whose outputs pass a dropout: another random number, another feature."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.dropout = nn.Dropout(0.3)

    def forward(self, images, tokens):
        image_features, text_features, *rest = self.model(images, tokens)
        return self.dropout(image_features), self.dropout(text_features), *rest


def make_model(name="vit"):
    config = SHALLOW[name]
    if name == "vit":
        config = replace(config, vision_cfg=replace(config.vision_cfg, patch_dropout=0.5))
    return Dropped(build(config)).double().train()


def make_batch(name="vit", size=B):
    images, tokens = inputs(SHALLOW[name], size)
    return images.double(), tokens


def loss_of(model):
    has_bias = model.model.logit_bias is not None
    return SigLipLoss(backend="reference") if has_bias else ClipLoss(backend="reference")


def plain_gradients(model, images, tokens, loss, micro=MICRO):
    """All graphs, one loss, one backward: what a step is without any caching."""
    parts = [
        model(images[i : i + micro], tokens[i : i + micro]) for i in range(0, len(images), micro)
    ]
    image_features, text_features = (torch.cat([p[k] for p in parts]) for k in (0, 1))
    value = loss(image_features, text_features, *parts[0][2:])
    value.backward()
    return value.detach()


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(found, expected, rtol=1e-12):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().clamp(min=1e-30)
        assert ((found[name] - value).abs().max() / scale) < rtol, name


def budget_for(kept):
    """Bytes that so many micro-batches of the "vit" fit into."""
    if kept == 4:
        return "unlimited"
    model = make_model()
    return (kept + 0.5) * cached_step(model, make_batch(), loss_of(model), MICRO).kept_bytes


@pytest.mark.parametrize(
    "name, kept",
    [*(("vit", kept) for kept in (0, 1, 2, 4)), ("siglip", 0), ("resnet", 1), ("resnet", 4),
     ("custom_text", 2)],
)  # fmt: skip
def test_gradients_equal_those_of_the_whole_batch_for_every_budget(name, kept):
    model, (images, tokens) = make_model(name), make_batch(name)
    other = copy.deepcopy(model)
    measured = cached_step(copy.deepcopy(model), (images, tokens), loss_of(model), MICRO)
    torch.manual_seed(7)
    expected = plain_gradients(model, images, tokens, loss_of(model))
    torch.manual_seed(7)
    budget = "unlimited" if kept == 4 else (kept + 0.5) * measured.kept_bytes
    result = cached_step(other, (images, tokens), loss_of(model), MICRO, budget)
    assert (result.num_micro_batches, result.num_kept) == (4, kept)
    assert_equal(gradients(other), gradients(model))
    assert abs(result.loss - expected) < 1e-12
    for one, two in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kept", [0, 2, 4])
def test_parameters_after_three_optimiser_steps_equal_the_plain_ones(kept):
    models = make_model(), make_model()
    loss = loss_of(models[0])
    step = CachedStep(models[1], loss, MICRO, budget_for(kept))
    found = []
    for model in models:
        torch.manual_seed(11)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-6)
        for i in range(3):
            images, tokens = inputs(SHALLOW["vit"], B, seed=i)
            optimizer.zero_grad()
            if model is models[0]:
                plain_gradients(model, images.double(), tokens, loss)
            else:
                found.append(step(images.double(), tokens).num_kept)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            model.model.clamp_logit_scale()
    assert found == [kept] * 3
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_random_numbers_after_the_step_are_those_after_a_plain_one():
    draws = []
    for run in (
        lambda m, b: plain_gradients(m, *b, loss_of(m)),
        lambda m, b: cached_step(m, b, loss_of(m), MICRO),
    ):
        torch.manual_seed(3)
        run(make_model(), make_batch())
        draws.append(torch.rand(4))
    assert torch.equal(*draws)


def test_gradient_of_the_scale_is_not_multiplied_by_the_number_of_micro_batches():
    model, batch = make_model(), make_batch()
    torch.manual_seed(0)
    plain_gradients(model, *batch, loss_of(model))
    once = model.model.logit_scale.grad.clone()
    for wrong in (4, 1 / 4):  # open_clip --accum-freq 4, and an average over micro-batches
        with pytest.raises(AssertionError):
            assert_equal({"logit_scale": wrong * once}, {"logit_scale": once})
    other = make_model()
    torch.manual_seed(0)
    cached_step(other, batch, loss_of(other), MICRO)
    assert_equal({"logit_scale": other.model.logit_scale.grad}, {"logit_scale": once})


def test_gradients_add_up_over_steps():
    model, batch = make_model(), make_batch()
    torch.manual_seed(0)
    cached_step(model, batch, loss_of(model), MICRO)
    once = {name: g.clone() for name, g in gradients(model).items()}
    torch.manual_seed(0)
    cached_step(model, batch, loss_of(model), MICRO)
    assert_equal(gradients(model), {name: 2 * g for name, g in once.items()})


@pytest.mark.parametrize("tower", ["image", "text", "both"])
@pytest.mark.parametrize("budget", [0, "unlimited"])
def test_frozen_towers_get_no_gradient_and_the_rest_the_right_one(tower, budget):
    models = make_model(), make_model()
    for model in models:
        if tower != "text":
            model.model.lock_image_tower()
        if tower != "image":
            model.model.lock_text_tower()
    torch.manual_seed(0)
    plain_gradients(models[0], *make_batch(), loss_of(models[0]))
    torch.manual_seed(0)
    cached_step(models[1], make_batch(), loss_of(models[0]), MICRO, budget)
    assert "model.logit_scale" in gradients(models[1])
    assert_equal(gradients(models[1]), gradients(models[0]))


def test_parameters_of_the_loss_get_their_gradient():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
            self.loss = ClipLoss(backend="reference")

        def forward(self, *outputs):
            return {"contrastive_loss": self.weight * self.loss(*outputs)}

    model, loss = make_model(), Weighted()
    result = cached_step(model, make_batch(), loss, MICRO)
    torch.testing.assert_close(loss.weight.grad, result.loss / 2)


@pytest.mark.parametrize("micro", [MICRO, B])
def test_options_of_the_loss_are_those_of_the_whole_batch(micro):
    class OfPool(nn.Module):
        def __init__(self):
            super().__init__()
            generator = torch.Generator().manual_seed(3)
            width = SHALLOW["vit"].embed_dim
            pool = torch.randn(5, width, generator=generator, dtype=torch.float64)
            self.pool = nn.Parameter(pool / pool.norm(dim=1, keepdim=True))
            self.loss = ClipLoss(
                backend="reference", label_smoothing=0.1, margin=0.2,
                directions={"image_to_text": 0.7, "text_to_image": 0.4},
            )  # fmt: skip

        def forward(self, *outputs):
            weights = torch.linspace(0.0, 3.0, B)
            return self.loss(*outputs, weights=weights, extra_text_features=self.pool)

    models, losses = (make_model(), make_model()), (OfPool(), OfPool())
    torch.manual_seed(0)
    value = plain_gradients(models[0], *make_batch(), losses[0], micro)
    torch.manual_seed(0)
    result = cached_step(models[1], make_batch(), losses[1], micro)
    torch.testing.assert_close(result.loss, value, rtol=1e-12, atol=0)
    assert_equal(gradients(models[1]), gradients(models[0]))
    torch.testing.assert_close(losses[1].pool.grad, losses[0].pool.grad, rtol=1e-12, atol=1e-15)


def test_scaled_loss_scales_gradients_and_not_the_value():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    models = make_model(), make_model()
    results = []
    for model, settings in zip(models, ({}, {"scaler": scaler}), strict=True):
        torch.manual_seed(0)
        results.append(cached_step(model, make_batch(), loss_of(model), MICRO, **settings))
    assert results[0].loss == results[1].loss
    assert_equal(gradients(models[1]), {n: 1024 * g for n, g in gradients(models[0]).items()})


def test_images_are_prepared_and_the_model_runs_under_autocast():
    model = build(SHALLOW["vit"]).train()
    images, tokens = inputs(SHALLOW["vit"], B)
    pixels = (40 * images + 128).clamp(0, 255).to(torch.uint8)
    seen = []

    def prepare(part):
        seen.append(part.dtype)
        return part.float() / 40

    result = cached_step(
        model, (pixels, tokens), ClipLoss(), MICRO, prepare=prepare,
        autocast=lambda: torch.autocast("cpu", torch.bfloat16),
    )  # fmt: skip
    assert seen == [torch.uint8] * 8  # four micro-batches, twice
    assert result.loss.dtype == torch.float32
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())


@pytest.mark.parametrize("budget", [0, "unlimited"])
def test_autocast_gradients_are_those_of_the_plain_step_under_autocast(budget):
    """Equal but for the order in which float32 adds up the gradients of the micro-batches: any
    order of k terms is within (k - 1) 2^-24 of the sum of their absolute values.

    The gradient of a micro-batch is rounded to bfloat16, so that both steps need the same ones: the
    texts are in the step's order and cut as it cuts them, and every micro-batch has a copy of the
    weights of its own, in which nothing else is added up.
    """
    models = [build(SHALLOW["vit"]) for _ in range(2)]
    images, tokens = inputs(SHALLOW["vit"], B)
    tokens = tokens[models[0].text_lengths(tokens).argsort(descending=True, stable=True)]
    parts = []
    for image_part, token_part in zip(images.split(MICRO), tokens.split(MICRO), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(models[0](image_part, without_padding(models[0], token_part)))
    features = [torch.cat([p[k] for p in parts]) for k in (0, 1)]
    ClipLoss()(*features, parts[0][2]).backward(retain_graph=True)
    scale = models[0].logit_scale
    leaves = [features[k].detach().requires_grad_() for k in (0, 1)]
    of_features = torch.autograd.grad(ClipLoss()(*leaves, parts[0][2].detach()), leaves)
    of_features = [x.split(MICRO) for x in of_features]
    weights = {n: p for n, p in models[0].named_parameters() if p is not scale}
    terms = [
        torch.autograd.grad(part[:2], weights.values(), [g[i] for g in of_features])
        for i, part in enumerate(parts)
    ]
    settings = {"autocast": lambda: torch.autocast("cpu", torch.bfloat16)}
    cached_step(models[1], (images, tokens), ClipLoss(), MICRO, budget, **settings)
    found = gradients(models[1])
    assert found.pop("logit_scale") == scale.grad
    for name, *of_parts in zip(weights, *terms, strict=True):
        of_parts = torch.stack(of_parts).double()
        bound = (len(parts) - 1) * 2.0**-24 * of_parts.abs().sum(0)
        assert ((found[name] - of_parts.sum(0)).abs() <= bound).all(), name


def test_micro_batches_may_come_as_they_are():
    models = make_model(), make_model()
    images, tokens = make_batch()
    torch.manual_seed(0)
    cached_step(models[0], (images, tokens), loss_of(models[0]), MICRO)
    torch.manual_seed(0)
    parts = [(images[i : i + MICRO], tokens[i : i + MICRO]) for i in range(0, B, MICRO)]
    result = CachedStep(models[1], loss_of(models[1]), MICRO).over(parts)
    assert result.num_micro_batches == 4
    assert_equal(gradients(models[1]), gradients(models[0]))


def test_models_with_dict_outputs_and_texts_by_name_are_taken():
    config = SHALLOW["vit"]
    model = CLIP(config, output_dict=True).double()

    class ByName(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images, texts):
            return self.model(images, texts["input_ids"])

    images, tokens = make_batch()
    cached_step(ByName(), (images, {"input_ids": tokens}), ClipLoss(), MICRO)
    by_name = gradients(model)
    model.zero_grad()
    ClipLoss()(*model(images, tokens).values()).backward()
    assert_equal(by_name, gradients(model), rtol=1e-9)


@pytest.mark.parametrize("size, micro", [(1, 4), (4, 4), (5, 1)])
def test_batches_of_any_size_are_taken(size, micro):
    model, (images, tokens) = make_model("resnet").eval(), make_batch("resnet", size)
    other = copy.deepcopy(model)
    plain_gradients(model, images, tokens, loss_of(model), micro)
    result = cached_step(other, (images, tokens), loss_of(model), micro)
    assert result.num_micro_batches == -(-size // micro)
    assert_equal(gradients(other), gradients(model))


@pytest.mark.parametrize(
    "images, texts, message",
    [
        (torch.zeros(0, 3, 32, 32), torch.zeros(0, 9, dtype=torch.int64), "got 0 images"),
        (torch.zeros(2, 3, 32, 32), torch.zeros(3, 9, dtype=torch.int64), r"2 images and \[3\]"),
    ],
)
def test_batches_that_do_not_match_raise(images, texts, message):
    with pytest.raises(ValueError, match=message):
        cached_step(make_model(), (images, texts), ClipLoss(), MICRO)
    with pytest.raises(ValueError, match="micro_batch_size must be at least 1"):
        cached_step(make_model(), make_batch(), ClipLoss(), 0)


@pytest.mark.usefixtures("cheap_collections")
@pytest.mark.parametrize("times, kept", [(0, 0), (0.9, 0), (1, 1), (3.2, 3), (1000, 8)])
def test_as_many_graphs_are_alive_at_the_loss_as_the_budget_holds(times, kept):
    model = build(SHALLOW["vit"]).train()
    batch = inputs(SHALLOW["vit"], 16)
    one = cached_step(model, batch, ClipLoss(), 2, prepare=lambda x: x * 1).kept_bytes
    alive, forwards = [], []

    def watched(images):
        graph = images * 1  # dies with the graph of its micro-batch
        forwards.append(weakref.ref(graph))
        return graph

    def loss(*outputs):
        gc.collect()
        alive.append(sum(f() is not None for f in forwards))
        return ClipLoss()(*outputs)

    step = CachedStep(model, loss, 2, times * one, prepare=watched)
    step(*batch)
    assert step(*batch).num_kept == kept
    assert alive[1] == kept
    assert len(forwards) == 2 * (8 + 8 - kept)


@pytest.mark.compilers
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_compiled_towers_draw_the_same_random_numbers_again():
    """What the compiler makes of dropout: the forward without a graph, and the one with it.

    Of towers, what draws: what takes the time is the compiler, of which `test_compile.py` has all.
    """
    torch.manual_seed(0)
    towers = nn.Sequential(PatchDropout(0.5, 1), nn.Flatten()), nn.Dropout(0.3)
    towers = [nn.Sequential(tower, nn.Linear(24, 8)) for tower in towers]
    model = Dropped(TwoTower(*towers)).train()
    model.compile()
    images, tokens = torch.randn(9, 5, 8), torch.randn(9, 24)
    loss = ClipLoss(backend="reference")
    gradients = []
    for run in (CachedStep(model, loss, MICRO), lambda *b: plain_gradients(model, *b, loss)):
        model.zero_grad()
        torch.manual_seed(7)
        run(images, tokens)
        gradients.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_statistics_that_a_loss_returns_come_with_the_step():
    model, batch = build(SHALLOW["siglip"]).double(), make_batch("siglip")
    expected, stats = ClipLoss()(*model(*batch), return_stats=True)
    found = CachedStep(model, ClipLoss(), MICRO)(*batch, return_stats=True)
    torch.testing.assert_close((found.loss, *found.stats), (expected.detach(), *stats))
    assert CachedStep(model, ClipLoss(), MICRO)(*batch).stats is None


@pytest.mark.parametrize("value", ["no tensor", torch.zeros(2), (torch.zeros(()), torch.ones(()))])
def test_what_a_loss_returns_is_checked(value):
    with pytest.raises(TypeError, match="the loss must return a scalar, a dict of scalars"):
        CachedStep(make_model(), lambda *features: value, MICRO)(*make_batch())
