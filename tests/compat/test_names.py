"""Every name of open_clip 3.3.0 is there, or stands with the reason why it is not."""

import importlib
import inspect
import pkgutil

import pytest

import fastclip
from fastclip.compat import open_clip as ours
from fastclip.compat.absent import Absent
from tests.support.peers import open_clip as theirs

SUBMODULES = sorted(module.name for module in pkgutil.iter_modules(theirs.__path__))
# What fastclip itself leaves to `fastclip.compat.open_clip`, with the reason.
NOT_ON_FASTCLIP = {
    "CLIPTextCfg": "configurations are ClipConfig's",
    "CLIPVisionCfg": "configurations are ClipConfig's",
} | {name: "a module of the other package" for name in SUBMODULES if name != "push_to_hf_hub"}
# Names of modules that other packages brought there, or that no client imports.
LEFT_OUT = {
    "hf_configs": {"arch_dict"},
    "hf_model": {"arch_dict"},
    "loss": {"has_distributed", "hvd"},
    "pretrained": {"has_hf_hub"},
    "push_to_hf_hub": {"generate_readme", "save_config_for_hf", "save_for_hf"},
    "tokenizer": {"bytes_to_unicode", "default_bpe", "get_pairs"},
    "coca_model": {"GENERATION_TYPES", "prepare_inputs_for_generation"},
}


def public(module) -> set[str]:
    """What a module itself defines."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and (inspect.isclass(value) or inspect.isroutine(value) or name.isupper())
        and getattr(value, "__module__", module.__name__) == module.__name__
    }


def test_names_of_the_package_are_all_there():
    names = {name for name in dir(theirs) if not name.startswith("__")}
    assert names <= set(dir(ours))
    assert ours.__version__ == theirs.__version__


def test_names_of_the_package_are_on_fastclip_or_listed():
    names = {name for name in dir(theirs) if not name.startswith("__")}
    missing = {name for name in names if not hasattr(fastclip, name)}
    # Modules of fastclip happen to be called as some of open_clip's.
    assert missing <= set(NOT_ON_FASTCLIP)
    assert {n for n in NOT_ON_FASTCLIP if n not in SUBMODULES} <= missing


@pytest.mark.parametrize("name", SUBMODULES)
def test_names_of_every_module_are_there(name):
    module = importlib.import_module(f"fastclip.compat.open_clip.{name}")
    expected = public(importlib.import_module(f"open_clip.{name}")) - LEFT_OUT.get(name, set())
    assert {wanted for wanted in expected if not hasattr(module, wanted)} == set()


def test_absent_names_say_why_when_they_are_used():
    found = 0
    for name in SUBMODULES:
        module = importlib.import_module(f"fastclip.compat.open_clip.{name}")
        for wanted, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, Absent) and value is not Absent:
                with pytest.raises(NotImplementedError, match=f"{wanted} is not in fastclip: .+"):
                    value(1, key=2)
                found += 1
    assert found > 20


SIGNATURES = [
    "create_model", "create_model_and_transforms", "create_model_from_pretrained", "get_tokenizer",
    "load_checkpoint", "add_model_config", "get_model_config", "list_pretrained",
    "list_pretrained_models_by_tag", "list_pretrained_tags_by_model", "get_pretrained_cfg",
    "get_pretrained_url", "is_pretrained_cfg", "download_pretrained", "create_loss",
    "download_pretrained_from_url", "load_openai_model", "trace_model", "get_cast_dtype",
    "get_input_dtype", "get_model_preprocess_cfg", "set_model_preprocess_cfg",
    "get_model_tokenize_cfg", "build_zero_shot_classifier", "build_zero_shot_classifier_legacy",
    "push_to_hf_hub", "push_pretrained_to_hf_hub", "tokenize", "image_transform",
    "convert_weights_to_lp", "convert_weights_to_fp16", "ClipLoss", "AugmentationCfg",
    "SimpleTokenizer", "DistillClipLoss", "CoCaLoss",
]  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_are_open_clips_in_open_clips_order(name):
    own = list(inspect.signature(getattr(ours, name)).parameters)
    for position, argument in enumerate(_arguments(getattr(theirs, name))):
        if argument in ("use_horovod",) and argument not in own:
            continue
        assert argument in own or "settings" in own or "model_kwargs" in own, argument
        if argument in own:
            assert own.index(argument) == position, argument


def _arguments(function) -> list[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(function).parameters
    return [name for name, parameter in parameters.items() if parameter.kind not in kinds]


def test_tokenize_cuts_here_and_refuses_there():
    long = "a " * 100
    assert ours.tokenize(long).shape == (1, 77) == theirs.tokenize(long).shape
    assert (ours.tokenize(long) == theirs.tokenize(long)).all()
    with pytest.raises(ValueError, match="truncate=True"):
        fastclip.tokenize(long)
    assert ours.decode(ours.tokenize("a dog")[0][:4]) == theirs.decode(
        theirs.tokenize("a dog")[0][:4]
    )
