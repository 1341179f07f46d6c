"""The drop-in modules: open_clip's signatures, values and gradients."""

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest
import torch

import fastclip
from fastclip.benchmarks.cases import Case, make_inputs


@pytest.fixture(scope="module")
def open_clip_loss():
    """open_clip's module of losses alone: the package imports torchvision, the losses do not."""
    package = importlib.util.find_spec("open_clip")
    if package is None:
        pytest.skip("open_clip is not installed")
    path = Path(package.submodule_search_locations[0]) / "loss.py"
    spec = importlib.util.spec_from_file_location("open_clip_loss", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(loss, *inputs, **options):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = loss(*leaves, **options)
    value = value["contrastive_loss"] if isinstance(value, dict) else value
    value.backward()
    return value.detach(), [x.grad for x in leaves]


@pytest.mark.parametrize("data", ["random", "trained"])
@pytest.mark.parametrize("settings", [{}, dict(local_loss=True, gather_with_grad=True),
                                      dict(cache_labels=True)], ids=str)  # fmt: skip
def test_clip_loss_equals_open_clip(open_clip_loss, data, settings):
    inputs = make_inputs(Case(130, 48, logit_scale=14.3, data=data))
    inputs = (*inputs, torch.tensor(-4.0))
    actual = run(fastclip.ClipLoss(**settings), *inputs)
    expected = run(open_clip_loss.ClipLoss(**settings), *inputs)
    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1][:3], expected[1][:3], rtol=1e-4, atol=1e-8)
    # open_clip's gradient of the bias is rounding noise around zero.
    assert actual[1][3] == 0 and expected[1][3].abs() < 1e-6


@pytest.mark.parametrize("data", ["random", "trained"])
def test_siglip_loss_equals_open_clip(open_clip_loss, data):
    inputs = make_inputs(Case(130, 48, logit_scale=10.0, data=data))
    inputs = (*inputs, torch.tensor(-10.0))
    actual = run(fastclip.SigLipLoss(), *inputs)
    expected = run(open_clip_loss.SigLipLoss(), *inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["ClipLoss", "SigLipLoss"])
def test_signatures_extend_open_clips(open_clip_loss, name):
    ours, theirs = getattr(fastclip, name), getattr(open_clip_loss, name)
    for method in ("__init__", "forward"):
        our_parameters = inspect.signature(getattr(ours, method)).parameters
        for parameter in inspect.signature(getattr(theirs, method)).parameters.values():
            ours_of_that_name = our_parameters[parameter.name]
            assert ours_of_that_name.kind == parameter.kind
            if parameter.name in ("rank", "world_size"):
                assert ours_of_that_name.default is None  # found by itself
            elif parameter.default is not parameter.empty:
                assert ours_of_that_name.default == parameter.default
        positional = [p.name for p in our_parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
        their_order = list(inspect.signature(getattr(theirs, method)).parameters)
        assert positional[: len(their_order)] == their_order


@pytest.mark.parametrize("module", [fastclip.ClipLoss, fastclip.SigLipLoss])
def test_output_dict_and_keywords(module):
    image, text, scale = make_inputs(Case(20, 8))
    loss = module()
    value = loss(image_features=image, text_features=text, logit_scale=scale, logit_bias=None)
    as_dict = loss(image, text, scale, None, output_dict=True)
    assert as_dict.keys() == {"contrastive_loss"}
    torch.testing.assert_close(as_dict["contrastive_loss"], value, rtol=0, atol=0)


@pytest.mark.parametrize("module", [fastclip.ClipLoss, fastclip.SigLipLoss])
def test_ranks_that_are_not_there_raise(module):
    inputs = make_inputs(Case(20, 8))
    # Ranks may be initialised after the module is made: what needs them is checked when called.
    made = module(rank=1, world_size=2)
    with pytest.raises(ValueError, match=r"world_size=2 needs .*, but none is initialised"):
        made(*inputs)
    with pytest.raises(ValueError, match=r"rank must be in \[0, world_size=2\), got 2"):
        module(rank=2, world_size=2)
    with pytest.raises(ValueError, match="rank must be >= 0, got -1"):
        module(rank=-1)
    made = module(rank=3)
    with pytest.raises(ValueError, match="rank must be this process's rank 0 of 1, got 3"):
        made(*inputs)
    with pytest.raises(ValueError, match="world_size must be >= 1, got 0"):
        module(world_size=0)
    with pytest.raises(TypeError, match="process_group must be a ProcessGroup or None, got str"):
        module(process_group="world")
    with pytest.raises(ValueError, match=r"schedule must be one of \('gather', 'ring'\), got 'x'"):
        module(schedule="x")
    module(rank=0, world_size=1)


def test_horovod_and_unknown_dist_impl_raise():
    with pytest.raises(NotImplementedError, match="use_horovod"):
        fastclip.ClipLoss(use_horovod=True)
    with pytest.raises(ValueError, match=r"dist_impl must be None or one of .*, got 'ring'"):
        fastclip.SigLipLoss(dist_impl="ring")


def test_dist_impl_chooses_the_schedule_unless_one_is_given():
    expected = {None: "gather", "bidir": "ring", "shift": "ring", "reduce": "gather",
                "gather": "gather"}  # fmt: skip
    for dist_impl, schedule in expected.items():
        assert fastclip.SigLipLoss(dist_impl=dist_impl).schedule == schedule
    assert fastclip.SigLipLoss(dist_impl="gather", schedule="ring").schedule == "ring"


def test_options_of_a_clip_loss_are_those_of_the_function():
    image, text, scale = make_inputs(Case(20, 8))
    of_module = dict(label_smoothing=0.1, margin=0.2, directions={"image_to_text": 2.0})
    of_batch = dict(weights=torch.rand(20), extra_text_features=torch.rand(5, 8))
    loss = fastclip.ClipLoss(**of_module)
    expected = fastclip.clip_loss(image, text, scale, **of_module, **of_batch)
    assert torch.equal(loss(image, text, scale, **of_batch), expected)
    assert repr(loss).endswith(
        "schedule='gather', label_smoothing=0.1, margin=0.2, directions={'image_to_text': 2.0})"
    )
    assert repr(fastclip.ClipLoss()).endswith("schedule='gather')")
    with pytest.raises(ValueError, match="label_smoothing must be in"):
        fastclip.ClipLoss(label_smoothing=1.0)
    with pytest.raises(ValueError, match="directions must be names from"):
        fastclip.ClipLoss(directions=["nonsense"])
    with pytest.raises(TypeError, match="weights"):
        fastclip.SigLipLoss()(image, text, scale, **of_batch)


@pytest.mark.parametrize("module", [fastclip.ClipLoss, fastclip.SigLipLoss])
def test_settings_are_passed_on_and_shown(module):
    image, text, scale = make_inputs(Case(20, 8))
    loss = module(backend="nonsense", workspace=123)
    assert "backend='nonsense', workspace=123" in repr(loss)
    with pytest.raises(ValueError, match="nonsense"):
        loss(image, text, scale, 0.0)


@pytest.mark.parametrize("module", [fastclip.ClipLoss, fastclip.SigLipLoss])
def test_modules_alone_compile_into_one_graph(module):
    inputs = make_inputs(Case(20, 8))
    compiled = torch.compile(module(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), module()(*inputs))


def test_modules_have_no_state_and_survive_pickling():
    import pickle

    loss = pickle.loads(pickle.dumps(fastclip.ClipLoss(cache_labels=True)))
    assert loss.cache_labels and loss.state_dict() == {}
