"""The loss of a command line of open_clip's trainer."""

from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F

import fastclip
from tests.support.peers import open_clip


def arguments(*flags: str) -> Namespace:
    from open_clip_train.params import parse_args

    args = parse_args(["--model", "ViT-B-32", *flags])
    args.distill, args.rank, args.world_size = False, 0, 1
    return args


@pytest.mark.parametrize(
    "flags", [[], ["--local-loss", "--gather-with-grad"], ["--siglip"],
              ["--siglip", "--loss-dist-impl", "reduce"]]
)  # fmt: skip
def test_loss_of_a_command_line_is_open_clips(flags):
    args = arguments(*flags)
    ours, theirs = fastclip.create_loss(args), open_clip.create_loss(args)
    assert type(ours).__name__ == type(theirs).__name__
    generator = torch.Generator().manual_seed(0)
    features = [F.normalize(torch.randn(6, 8, generator=generator), dim=-1) for _ in range(2)]
    scalars = [torch.tensor(9.0)] + [torch.tensor(-3.0)] * ("--siglip" in flags)
    found, expected = (loss(*features, *scalars, output_dict=True) for loss in (ours, theirs))
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_what_the_arguments_do_not_say_has_open_clips_default():
    loss = fastclip.create_loss(Namespace())
    assert isinstance(loss, fastclip.ClipLoss) and not loss.local_loss
    assert isinstance(fastclip.create_loss(Namespace(siglip=True)), fastclip.SigLipLoss)
    assert isinstance(fastclip.create_loss(Namespace(model=None)), fastclip.ClipLoss)


def test_the_loss_of_a_model_that_writes_captions_is_open_clips():
    args = arguments("--coca-caption-loss-weight", "3")
    args.model = "coca_ViT-B-32"
    ours, theirs = fastclip.create_loss(args), open_clip.create_loss(args)
    assert type(ours) is fastclip.CoCaLoss and type(theirs) is open_clip.CoCaLoss
    assert (ours.caption_loss_weight, ours.clip_loss_weight) == (3, 1)
    assert theirs.caption_loss_weight == 3 and theirs.clip_loss_weight == 1
    # As open_clip, whose trainer asks for the model first.
    both = fastclip.create_loss(Namespace(model="coca_ViT-B-32", siglip=True))
    assert type(both) is fastclip.CoCaLoss
    plain = fastclip.create_loss(Namespace(model="coca_ViT-B-32"))
    assert (plain.caption_loss_weight, plain.clip_loss_weight) == (2, 1)


def test_a_distillation_is_open_clips():
    args = arguments("--local-loss")
    args.distill = True
    ours, theirs = fastclip.create_loss(args), open_clip.create_loss(args)
    assert type(ours) is fastclip.DistillClipLoss and type(theirs) is open_clip.DistillClipLoss
    assert ours.local_loss and ours.world_size == 1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"distill": True, "siglip": True}, r"args\.distill with args\.siglip"),
        ({"horovod": True}, r"args\.horovod is not supported"),
    ],
)
def test_losses_that_are_not_here_are_named(change, message):
    with pytest.raises(NotImplementedError, match=message):
        fastclip.create_loss(Namespace(**change))
