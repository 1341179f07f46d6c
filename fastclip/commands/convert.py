"""`fastclip convert`: rewrite weights from any layout that fastclip reads to any it writes."""

import argparse
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from fastclip.data.tokenizers.hugging_face import has_tokenizer
from fastclip.data.tokenizers.openai_vocabulary import find_vocabulary
from fastclip.models.build import build_model
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.run_files import newest_of_run
from fastclip.models.checkpoints.stored_model import StoredModel, read_stored_model
from fastclip.models.checkpoints.write import LAYOUTS, write_weights
from fastclip.models.config import ClipConfig
from fastclip.models.parts.activations import ACTIVATIONS
from fastclip.models.presets import has_clip_vocabulary, preprocess_of
from fastclip.models.registry import get_model_config
from fastclip.printable import printable_lines

DESCRIPTION = """\
Rewrites the weights of a model in the layout of another library. All weights are first loaded into
a model, so that a weight that is missing, left over or of a wrong shape is an error.
"""
EPILOG = """\
for example
    fastclip convert logs/my-run my-model --to hf
    fastclip convert logs/my-run/checkpoints/epoch_best.pt my-best-model --to hf
    fastclip convert ViT-B-32.pt my-model --to open_clip
    fastclip convert hf-model weights.pt --to openai
    fastclip convert my-model llava-tower --to hf_vision
"""
WITHOUT_TOKENIZER = ("openai", "hf_vision")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("source", type=Path, metavar="SRC",
        help="The file or directory to read, from OpenAI, open_clip, transformers or fastclip. If "
        "it is the folder of a run, the run's newest checkpoint is read.")  # fmt: skip
    parser.add_argument("destination", type=Path, metavar="DST",
        help="The directory to create, or with --to openai the file.")  # fmt: skip
    parser.add_argument("--to", required=True, choices=LAYOUTS,
        help="The layout of DST. hf_vision is the image tower alone, for transformers' "
        "CLIPVisionModel, SiglipVisionModel or Siglip2VisionModel, which language models such as "
        "LLaVA load.")  # fmt: skip
    parser.add_argument("--model", metavar="NAME",
        help="The name of the architecture, one of fastclip.list_models(). By default SRC says it, "
        "or it is inferred from the shapes of the weights.")  # fmt: skip
    parser.add_argument("--activation", choices=tuple(ACTIVATIONS), nargs="+", metavar="NAME",
        help="The activation, where SRC does not record it: one name for both towers, or two for "
        f"the vision and the text tower, of {', '.join(ACTIVATIONS)}. With --model, the "
        "architecture determines it.")  # fmt: skip
    parser.add_argument("--heads", type=int, nargs="+", metavar="N",
        help="The number of attention heads, where SRC does not record it and is not like a "
        "published model: one number for both towers, or two for the vision and the text tower. "
        "With --model, the architecture determines it.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    try:
        if (newest := newest_of_run(args.source)) is not None:
            print(f"the newest checkpoint of the run is {newest}")
        stored = read_stored_model(newest or args.source)
        config = _config(stored, args.model, args.activation, args.heads)
        directory = stored.directory
        brings_tokenizer = directory is not None and has_tokenizer(directory)
        has_place = args.to not in WITHOUT_TOKENIZER
        is_written = has_place and not brings_tokenizer
        no_vocabulary = _objection_to_vocabulary(config) if is_written else None
        # Through a model, so that no tensor is missing, left over or of another shape.
        model = build_model(config, stored)
        preprocess = stored.preprocess or preprocess_of(config)
        write_weights(
            args.destination, args.to, model.state_dict(), config, preprocess,
            directory if brings_tokenizer and has_place else None,
        )  # fmt: skip
    except (CheckpointError, ImportError, ValueError, OSError) as error:
        print(f"fastclip convert: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    tensors, activations = list(model.parameters()), config.activations
    if args.to == "hf_vision":
        tensors = [p for name, p in model.visual.named_parameters() if name != "proj"]
        activations = activations[:1]
    parameters, said = sum(map(Tensor.numel, tensors)), sorted({a for a in activations if a})
    print(f"wrote {args.destination}: {parameters:,} parameters, {', '.join(said)}")
    if stored.config is None and args.model is None:
        print(_inferred(config))
    if brings_tokenizer or not has_place:
        return 0
    if has_tokenizer(args.destination):
        whose = "byte" if config.text_cfg.has_byte_vocabulary() else "OpenAI"
        print(f"wrote the {whose} tokenizer, because there was none next to the weights")
    elif no_vocabulary is not None or args.to == "hf":
        print(f"no tokenizer was written: {no_vocabulary or 'none was next to the weights'}")
    return 0


def _objection_to_vocabulary(config: ClipConfig) -> str | None:
    """Fetch OpenAI's vocabulary if the model uses it; return why that fails, or None."""
    if has_clip_vocabulary(config.text_cfg):
        try:
            find_vocabulary()
        except FileNotFoundError as error:
            return str(error)
    return None


def _config(
    stored: StoredModel, name: str | None, activation: list[str] | None, heads: list[int] | None
) -> ClipConfig:
    told = {"--activation": activation, "--heads": heads}
    if name is None:
        return stored.config_or_inferred(*(_one_or_two(*option) for option in told.items()))
    for option, values in told.items():
        if values is not None:
            raise ValueError(f"{option} cannot be given with --model, which determines it")
    return get_model_config(name)


def _inferred(config: ClipConfig) -> str:
    """Say what was assumed where the shapes of the weights do not determine it."""
    vision, text = config.vision_cfg, config.text_cfg
    mask = "no mask" if text.no_causal_mask else "a causal mask"
    return (
        f"the architecture was inferred: {vision.heads} heads in the vision tower and {text.heads} "
        f"in the text tower, square images, {text.pool_type} pooling of texts and {mask}; give "
        "--model if that is wrong"
    )


def _one_or_two(option: str, values: list | None) -> Any:
    """Return one value for both towers, or a pair for the vision and the text tower."""
    if values is None or len(values) == 1:
        return values and values[0]
    if len(values) > 2:
        raise ValueError(f"{option} takes one value or two, got {values}")
    return tuple(values)
