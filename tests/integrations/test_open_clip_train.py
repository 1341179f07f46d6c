"""open_clip's trainer with another loss: both versions' hooks, by stand-ins of their calls."""

from argparse import Namespace
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastclip
from fastclip.integrations import open_clip_train
from fastclip.integrations.open_clip_train import main, patch, use_fastclip_loss

B, D = 6, 5


def arguments(**changes):
    given = {
        "model": "ViT-B-32", "siglip": False, "distill": False, "local_loss": True,
        "gather_with_grad": False, "rank": 0, "world_size": 1, "loss_dist_impl": None,
    }  # fmt: skip
    return Namespace(**given | changes)


class Model(nn.Module):
    """Returns its parameters by open_clip's names; the scale has FSDP's shape if it is asked."""

    def __init__(self, shape, has_bias=False):
        super().__init__()
        torch.manual_seed(0)
        self.images = nn.Parameter(torch.randn(B, D, dtype=torch.float64))
        self.texts = nn.Parameter(torch.randn(B, D, dtype=torch.float64))
        self.logit_scale = nn.Parameter(torch.full(shape, 1.5, dtype=torch.float64))
        if has_bias:
            self.logit_bias = nn.Parameter(torch.full(shape, -2.0, dtype=torch.float64))

    def forward(self):
        found = {
            "image_features": F.normalize(self.images, dim=1),
            "text_features": F.normalize(self.texts, dim=1),
            "logit_scale": self.logit_scale.exp(),
        }
        if hasattr(self, "logit_bias"):
            found["logit_bias"] = self.logit_bias
        return found


class Task(nn.Module):
    """Calls its loss as a task of open_clip 4 does: by name, and sums what ends in `_loss`."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self):
        losses = self.loss(**self.model(), output_dict=True)
        return sum(value for name, value in losses.items() if name.endswith("_loss"))


def named(name):
    """A loss of open_clip by its name, which is all that is looked at."""
    return type(name, (nn.Module,), {})()


def dense(model):
    outputs = model()
    logits = outputs["image_features"] @ outputs["text_features"].T
    logits = logits * outputs["logit_scale"]
    if "logit_bias" in outputs:
        signs = 2 * torch.eye(B, dtype=torch.float64) - 1
        return -F.logsigmoid(signs * (logits + outputs["logit_bias"])).sum() / B
    own = torch.arange(B)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("kind", ["ClipLoss", "SigLipLoss"])
def test_task_has_the_loss_and_the_gradient_of_the_formula(kind, shape):
    args = arguments(siglip=kind == "SigLipLoss")
    task = Task(Model(shape, kind == "SigLipLoss"), named(kind))
    assert use_fastclip_loss(task, args) is task
    assert type(task.loss) is getattr(fastclip, kind)
    value, expected = task(), dense(task.model)
    parameters = list(task.model.parameters())
    found = torch.autograd.grad(value, parameters)
    for gradient, truth in zip(found, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(gradient, truth, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(value.reshape(()), expected, rtol=1e-12, atol=0)


def test_losses_of_captions_and_teachers_take_the_place_of_theirs():
    for name, args in (
        ("CoCaLoss", arguments(model="coca_ViT-B-32")),
        ("DistillClipLoss", arguments(distill=True)),
    ):
        assert type(use_fastclip_loss(Task(None, named(name)), args).loss).__name__ == name


@pytest.mark.parametrize(
    ("theirs", "args"),
    [("GenLipLoss", arguments(model="genlip-b")), ("ClipLoss", arguments(siglip=True))],
)
def test_task_of_another_loss_is_refused_and_left_alone(theirs, args):
    task = Task(None, named(theirs))
    before = task.loss
    with pytest.raises(ValueError, match=rf"loss of Task must be one of .* got {theirs}"):
        use_fastclip_loss(task, args)
    assert task.loss is before


def trainer(**names):
    module = ModuleType("open_clip_train.main")
    vars(module).update(names)
    return module


def test_version_3_makes_fastclips_losses_where_it_makes_losses():
    host = trainer(create_loss=lambda args: None)
    patch(host)
    assert isinstance(host.create_loss(arguments()), fastclip.ClipLoss)
    assert isinstance(host.create_loss(arguments(siglip=True)), fastclip.SigLipLoss)


def test_version_4_makes_its_own_tasks_with_fastclips_losses():
    def create_task(args, model, dist_model=None, naflex_data_config=None):
        task = Task(model, named("ClipLoss"))
        task.kept = dist_model, naflex_data_config
        return task

    host = trainer(create_task=create_task)
    patch(host)
    task = host.create_task(arguments(), model=Model(()), dist_model=1, naflex_data_config=2)
    assert isinstance(task.loss, fastclip.ClipLoss) and task.kept == (1, 2)


def test_version_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"must have create_loss.*or create_task.*neither"):
        patch(trainer())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({}, None, ""),
        ({"horovod": True}, NotImplementedError, "horovod"),
        ({"distill_model": "ViT-B-32", "distill_pretrained": "x", "siglip": True},
         NotImplementedError, "args.distill with args.siglip"),
    ],
)  # fmt: skip
def test_command_line_is_checked_before_the_trainer_runs(monkeypatch, changes, error, message):
    ran = []
    host = trainer(
        create_loss=None, main=lambda argv: ran.append(argv),
        parse_args=lambda argv: arguments(**changes),
    )  # fmt: skip
    host.create_loss = lambda args: None
    monkeypatch.setattr(open_clip_train, "import_host", lambda module, extra: host)
    if error is None:
        main(["--model", "ViT-B-32"])
        assert ran == [["--model", "ViT-B-32"]]
    else:
        with pytest.raises(error, match=message):
            main([])
        assert not ran
