"""Every provider that runs here computes the same loss; the others say why they do not."""

import dataclasses

import pytest
import torch

from fastclip.benchmarks import accuracy, peers
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.provider import Provider, needs, no_objection
from fastclip.benchmarks.providers import OBJECTIVES, find_provider, providers
from fastclip.benchmarks.step import Step

SMALL = Case(N=45, D=33, logit_scale=14.3)
EAGER = [p for objective in OBJECTIVES for p in providers(objective) if not p.compiled]


def errors_of(provider: Provider, case: Case) -> dict[str, float]:
    step = Step(provider, case)
    truth = accuracy.exact(provider.objective, step.inputs, case.normalize)
    return accuracy.errors(step(), truth)


@pytest.mark.parametrize("data", ["random", "trained"])
@pytest.mark.parametrize("provider", EAGER, ids=lambda p: f"{p.objective}-{p.name}")
def test_provider_agrees_with_float64(provider, data, monkeypatch):
    monkeypatch.setattr(peers, "CHUNK_ROWS", 20)
    case = dataclasses.replace(SMALL, data=data)
    if (why := provider.objection(case)) is not None:
        pytest.skip(why)
    measured = errors_of(provider, case)
    # float32 throughout; peers lose digits where loss and p - 1 cancel, at a loss of 0.01.
    assert max(measured.values()) < (2e-6 if data == "random" else 2e-4), measured


@pytest.mark.parametrize("provider", EAGER, ids=lambda p: f"{p.objective}-{p.name}")
def test_provider_with_normalisation_agrees_with_float64(provider):
    case = dataclasses.replace(SMALL, normalize=True)
    if (why := provider.objection(case)) is not None:
        pytest.skip(why)
    measured = errors_of(provider, case)
    assert max(measured.values()) < 3e-6, measured


@pytest.mark.parametrize("provider", EAGER, ids=lambda p: f"{p.objective}-{p.name}")
def test_provider_takes_bfloat16(provider):
    case = dataclasses.replace(SMALL, dtype=torch.bfloat16)
    if (why := provider.objection(case)) is not None:
        pytest.skip(why)
    measured = errors_of(provider, case)
    measured.pop("loss_absolute")
    assert max(measured.values()) < 3e-2, measured


def test_errors_reject_a_provider_that_drops_a_column():
    def dropped(image, text, scale):
        logits, labels = (scale * image @ text.T)[:, :-1], torch.arange(len(image))
        loss = torch.nn.functional.cross_entropy
        return (loss(logits[:-1], labels[:-1]) + loss(logits.T, labels[:-1])) / 2

    measured = errors_of(Provider("dropped", "clip", lambda: dropped), SMALL)
    assert measured["image_features"] > 1e-2 and measured["loss"] > 1e-3


def test_step_autocast_multiplies_in_bfloat16():
    seen = []

    def loss(image, text, scale):
        logits = image @ text.T
        seen.append(logits.dtype)
        return scale * logits.float().sum()

    provider = Provider("spy", "clip", lambda: loss)
    Step(provider, SMALL)()
    Step(provider, dataclasses.replace(SMALL, autocast=True))()
    assert seen == [torch.float32, torch.bfloat16]


def test_step_gradients_are_fresh_every_time():
    step = Step(find_provider("clip", "fastclip/reference"), SMALL)
    first, second = step(), step()
    assert [x.shape for x in first.gradients] == [x.shape for x in step.inputs]
    for once, again in zip(first.gradients, second.gradients, strict=True):
        torch.testing.assert_close(once, again)


def test_objection_of_a_missing_package_names_it():
    assert needs("a_package_nobody_has")(SMALL) == "a_package_nobody_has is not installed"
    assert needs("torch")(SMALL) is None


def test_objection_declines_matrices_that_cannot_fit():
    provider = Provider("greedy", "clip", lambda: None, no_objection, matrices=4)
    assert provider.objection(SMALL) is None
    assert "GiB are available" in provider.objection(Case(N=10_000_000))


def test_find_provider_unknown_raises_with_the_known_names():
    with pytest.raises(ValueError, match=r"fastclip/chunked.*got 'clip'"):
        find_provider("clip", "clip")


def test_provider_names_are_distinct():
    for objective in OBJECTIVES:
        names = [provider.name for provider in providers(objective)]
        assert len(set(names)) == len(names)
