"""What autograd, autocast and the compiler may ask of the losses over ranks."""

import warnings

import pytest
import torch

import fastclip
from tests.distributed.pairs import LOSSES, SCHEDULES, inputs_of, leaves_of, loss_of

each_loss = pytest.mark.parametrize("loss", LOSSES)
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def gradients_again(group, loss, inputs, schedule):
    leaves = leaves_of(group.rank(), inputs)
    value = loss_of(loss, leaves, process_group=group, schedule=schedule)
    first = torch.autograd.grad(value, leaves, retain_graph=True)
    second = torch.autograd.grad(value, leaves, torch.tensor(-3.0).double(), retain_graph=True)
    (alone,) = torch.autograd.grad(value, leaves[2:3])
    assert torch.equal(alone, first[2])
    for one, other in zip(second, first, strict=True):
        # An entry in which terms cancel has the rounding of its terms.
        atol = 1e-12 * other.abs().max().item()
        torch.testing.assert_close(one, -3.0 * other, rtol=1e-12, atol=atol)


@each_loss
@each_schedule
def test_backward_works_twice_and_scales_with_grad_output(ranks, loss, schedule):
    ranks.run(3, gradients_again, loss, inputs_of(loss), schedule)


def of_strided_features(group, loss, inputs, schedule):
    image, text, *scalars = leaves_of(group.rank(), inputs)
    leaves = [image.T.contiguous().T, text.repeat(1, 2)[:, : text.shape[1]], *scalars]
    assert not any(x.is_contiguous() for x in leaves[:2])
    options = dict(process_group=group, schedule=schedule)
    value, expected = (loss_of(loss, x, **options) for x in (leaves, [image, text, *scalars]))
    gradients = [torch.autograd.grad(x, (image, text)) for x in (value, expected)]
    torch.testing.assert_close((value, gradients[0]), (expected, gradients[1]), rtol=1e-12, atol=0)


@each_loss
@each_schedule
def test_features_may_have_any_strides(ranks, loss, schedule):
    ranks.run(2, of_strided_features, loss, inputs_of(loss), schedule)


def penalty_on_gradients(group, loss, inputs, schedule):
    leaves = leaves_of(group.rank(), inputs)
    value = loss_of(loss, leaves, process_group=group, schedule=schedule)
    # With something differentiable beside it, a gradient that was cut off would raise nothing.
    beside = sum(x.square().sum() for x in leaves)
    for gradient in torch.autograd.grad(value, leaves, create_graph=True):
        with pytest.raises(RuntimeError, match="first derivatives only"):
            torch.autograd.grad(gradient.sum() + beside, leaves, retain_graph=True)


@each_loss
@each_schedule
def test_second_derivative_raises(ranks, loss, schedule):
    ranks.run(2, penalty_on_gradients, loss, inputs_of(loss), schedule)


def without_gradients(group, loss, inputs, schedule):
    # Only some ranks' features would want a gradient: without grad mode that is no disagreement.
    leaves = leaves_of(group.rank(), inputs, frozen=(0,) if group.rank() == 0 else ())
    with torch.no_grad():
        value = loss_of(loss, leaves, process_group=group, schedule=schedule)
    assert not value.requires_grad
    return value


@each_loss
@each_schedule
def test_no_grad_gives_the_same_value(ranks, loss, schedule):
    inputs = inputs_of(loss)
    for value in ranks.run(4, without_gradients, loss, inputs, schedule):
        torch.testing.assert_close(value, loss_of(loss, inputs), rtol=1e-12, atol=0)


def under_autocast(group, loss, inputs, schedule):
    images, *others = leaves_of(group.rank(), inputs)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss_of(loss, [images.bfloat16(), *others], process_group=group, schedule=schedule)
    value.backward()
    assert value.dtype == torch.float32
    assert all(x.grad.dtype == torch.float32 for x in (images, *others))
    return value.detach()


@each_loss
@each_schedule
def test_autocast_may_leave_sides_in_different_dtypes(ranks, loss, schedule):
    inputs = inputs_of(loss, torch.float32)
    rounded = [inputs[0].bfloat16().float(), *inputs[1:]]
    for value in ranks.run(4, under_autocast, loss, inputs, schedule):
        torch.testing.assert_close(value, loss_of(loss, rounded), rtol=1e-5, atol=0)


def compiled(group, loss, inputs, schedule):
    def doubled(leaves):
        leaves = [2.0 * leaves[0], *leaves[1:]]
        return 2.0 * loss_of(loss, leaves, process_group=group, schedule=schedule)

    leaves = leaves_of(group.rank(), inputs)
    with warnings.catch_warnings():
        # The compiler looks at .grad of what it resumes with, and warns of itself.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        value = torch.compile(doubled, backend="eager")(leaves)
    assert torch.equal(value, doubled(leaves))
    gradients = [torch.autograd.grad(x, leaves) for x in (value, doubled(leaves))]
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("loss, schedule", [*zip(LOSSES, SCHEDULES, strict=True)])
def test_compiled_code_may_call_the_loss(ranks, loss, schedule):
    ranks.run(2, compiled, loss, inputs_of(loss), schedule)


def by_module(group, loss, inputs, options):
    module = {"clip": fastclip.ClipLoss, "siglip": fastclip.SigLipLoss}[loss](**options)
    leaves = leaves_of(torch.distributed.get_rank(), inputs)
    value = module(*leaves)
    value.backward()
    return value.detach()


@each_loss
@pytest.mark.parametrize("options", [{}, {"world_size": 4}, {"schedule": "ring"}], ids=str)
def test_modules_find_the_ranks_by_themselves(ranks, loss, options):
    inputs = inputs_of(loss)
    for value in ranks.run(4, by_module, loss, inputs, options):
        torch.testing.assert_close(value, loss_of(loss, inputs), rtol=1e-12, atol=0)


@each_loss
def test_modules_told_to_be_alone_are(ranks, loss):
    inputs = inputs_of(loss)
    results = ranks.run(4, by_module, loss, inputs, {"world_size": 1})
    for rank, value in enumerate(results):
        own = loss_of(loss, leaves_of(rank, inputs)).detach()
        torch.testing.assert_close(value, own, rtol=1e-12, atol=0)


def transformed(group, loss, inputs, schedule):
    leaves = [x.detach() for x in leaves_of(group.rank(), inputs)]

    def value(*leaves):
        return loss_of(loss, leaves, process_group=group, schedule=schedule)

    wanted = tuple(range(len(leaves)))
    expected = leaves_of(group.rank(), inputs)
    value(*expected).backward()
    actual = torch.func.grad(value, wanted)(*leaves)
    torch.testing.assert_close(list(actual), [x.grad for x in expected], rtol=1e-12, atol=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")  # torch's own
        with pytest.raises(RuntimeError, match=r"forward mode AD|forward-mode"):
            torch.func.jvp(value, tuple(leaves), tuple(leaves))
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.func.grad(lambda *xs: torch.func.grad(value)(*xs).sum())(*leaves)


@pytest.mark.parametrize("loss, schedule", [*zip(LOSSES, SCHEDULES, strict=True)])
def test_transforms_of_torch_func_reach_over_ranks(ranks, loss, schedule):
    ranks.run(2, transformed, loss, inputs_of(loss), schedule)
