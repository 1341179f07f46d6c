"""`fastclip train`: open_clip's flags, and an explicit global batch.

For example
    fastclip train --train-data "shards/{000..127}.tar" --model ViT-B-32 \\
        --global-batch-size 32768 --micro-batch-size 256 --activation-budget 20GiB
    torchrun --nproc-per-node 2 -m fastclip train --train-data pairs.tsv --batch-size 256
    fastclip train --config run.yaml --resume latest --name my-run

The flags are the fields of `RunConfig`: a flag, a line of a YAML file and a field are one thing.
"""

import argparse
import ast
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from fastclip.data.preprocess import INTERPOLATIONS, RESIZE_MODES
from fastclip.distributed.groups import LOSS_SCHEDULES
from fastclip.models.tower_precision import PRECISIONS
from fastclip.printable import printable_lines
from fastclip.train.settings.config_file import read_settings
from fastclip.train.settings.idle import idle_settings
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.settings.step_config import ON_NONFINITE, SCHEDULERS
from fastclip.train.settings.types import non_optional

HELP = {
    "data": {
        "train_data": "tar shards (braces, globs, `::`), csv/tsv, folder, or `digits`",
        "val_data": "like --train-data; evaluated by retrieval",
        "dataset_type": "webdataset, csv, folder, synthetic, builtin, hf or auto",
        "csv_separator": "what separates the columns of a table",
        "csv_img_key": "column of paths, of a table or a Hugging Face data set",
        "csv_caption_key": "column of captions, of a table or a Hugging Face data set",
        "image_key": "which image of a sample: suffixes in order of preference, such as 'png;jpg' "
        "or seg.png; the column of a table",
        "caption_key": "which caption of a sample, likewise (default: txt); a caption in a json "
        "file is its value of 'caption' or 'text'",
        "train_num_samples": "samples of an epoch, where the data does not say",
        "workers": "processes that read and decode, on each rank",
        "shuffle_buffer": "samples that each worker shuffles among",
        "max_bad_rate": "fraction of samples that may be bad",
        "zeroshot_data": "folder with a folder per class, or `digits`; classified zero-shot",
        "zeroshot_classes": "text file, a class name per line, in the order of the sorted folders",
        "zeroshot_templates": "text file, a prompt per line, {} for the class name",
        "imagenet_val": "ImageNet's validation folder; names and prompts are open_clip's",
        "imagenet_v2": "folder of ImageNet V2, likewise",
    },
    "model": {
        "model": "see fastclip.list_models(); `digits` is the small one of the built-in data",
        "pretrained": "tag or path of weights to start from",
        "siglip": "sigmoid loss and its initialisation",
        "lock_image": "freeze the image tower",
        "lock_image_unlocked_groups": "last groups of a locked image tower that are trained",
        "lock_image_freeze_bn_stats": "freeze the running statistics of a locked image tower too",
        "lock_text": "freeze the text tower",
        "lock_text_unlocked_layers": "last layers of a locked text tower that are trained",
        "grad_checkpointing": "run blocks again in the backward",
        "force_patch_dropout": "fraction of patches dropped in training",
        "force_image_size": "pixels, or height and width; position embeddings are interpolated",
        "force_context_length": "tokens; position embeddings are interpolated",
        "force_quick_gelu": "QuickGELU in both towers",
        "force_custom_text": "keys of the text tower begin with text.",
        "image_mean": "mean of the pixels, instead of the model's",
        "image_std": "standard deviation of the pixels, instead of the model's",
        "image_interpolation": "how images are resized in evaluation",
        "image_resize_mode": "how images are made to fit in evaluation",
        "aug_cfg": "augmentation: scale='(0.8, 1.0)' gray_scale_prob=0.2 ...; see AugmentationCfg",
        "cache_dir": "where published weights are kept",
        "torchcompile": "compile the towers",
    },
    "batch": {
        "global_batch_size": "pairs in one loss, over all ranks",
        "micro_batch_size": "pairs encoded at once by a rank; default: --batch-size",
        "activation_budget": "memory for graphs that are kept: 20GiB, 0, auto or unlimited",
        "batch_size": "open_clip's: pairs of a rank; with --accum-freq it makes the global batch",
        "accum_freq": "open_clip's: micro-batches of a rank",
        "loss_schedule": "how the loss goes over ranks: gather or ring",
        "fsdp": "shard weights, gradients and moments over ranks (FSDP2)",
        "backend": "what computes the loss, see fastclip.explain_backends()",
        "precision": "how the towers compute; default: amp_bf16 on a GPU, fp32 else; bf16 and fp16 "
        "step float32 copies of their 16-bit weights, pure_bf16 and pure_fp16 lose small steps",
        "device": "cpu or cuda",
        "dist_backend": "nccl or gloo",
        "dist_timeout_minutes": "minutes that ranks wait for one that is late, such as the first "
        "while it evaluates or saves, before the run fails",
    },
    "optimisation": {
        "epochs": "passes over the data",
        "lr": "peak learning rate",
        "beta1": "AdamW's (default: 0.9)",
        "beta2": "AdamW's (default: 0.98, of a ResNet 0.999)",
        "eps": "AdamW's (default: 1e-6, of a ResNet 1e-8)",
        "wd": "weight decay of matrices",
        "warmup": "steps of linear rise",
        "lr_scheduler": "learning rate after the warm-up: cosine, const or const-cooldown",
        "epochs_cooldown": "last epochs of const-cooldown, in which the learning rate falls",
        "lr_cooldown_power": "power of the fall in the cooldown; 1 is a straight line",
        "lr_cooldown_end": "learning rate at the end of the cooldown",
        "skip_scheduler": "one learning rate for all steps, without warm-up",
        "ema_decay": "average the weights, such as 0.9999, in float32; evaluated, and kept as "
        "epoch_K_ema.pt; 0 is none, and drops that of a checkpoint",
        "grad_clip_norm": "largest norm of the gradient",
        "on_nonfinite": "what happens where a loss or a gradient is not finite: the run stops, or "
        "the step is skipped; an overflow that --precision amp scales away is always skipped",
        "max_skipped_steps": "steps that --on-nonfinite skip skips in a row; one more stops",
        "seed": "seed of weights, data order and dropout",
    },
    "run": {
        "logs": "folder of runs; under torchrun --logs-dir, as --logs looks like one of its own",
        "name": "name of this run, and of its folder in --logs; default: made of the time and "
        "the settings",
        "resume": "path of a checkpoint, or `latest` of --name; it is refused where the run is "
        "another one, and the log says what has changed; `allow-fresh` is `latest`, but starts "
        "afresh where no checkpoint is whole",
        "log_every_n_steps": "steps between lines",
        "save_frequency": "epochs between checkpoints that are kept",
        "save_every_steps": "steps between checkpoints",
        "save_every_minutes": "minutes between checkpoints",
        "keep_last": "checkpoints that stay, in addition to the checkpoints of epochs",
        "save_most_recent": "keep the checkpoint of the last epoch as epoch_latest.pt too",
        "val_frequency": "epochs between evaluations by retrieval",
        "zeroshot_frequency": "epochs between evaluations by classification",
        "report_to": "tensorboard, wandb, both with a comma between, or all",
        "wandb_project_name": "project at Weights & Biases",
        "wandb_notes": "notes on the run at Weights & Biases",
    },
}
CHOICES = {
    "lr_scheduler": SCHEDULERS, "on_nonfinite": ON_NONFINITE, "precision": PRECISIONS,
    "loss_schedule": LOSS_SCHEDULES,
    "image_interpolation": INTERPOLATIONS, "image_resize_mode": RESIZE_MODES,
}  # fmt: skip
ALIASES = {"logs": ("--logs-dir",)}  # torchrun takes --logs for the beginning of its own flags
# open_clip's flags that change nothing here, and why.
ACCEPTED = {
    "--local-loss": "gradients are exact without it",
    "--gather-with-grad": "gradients are exact without it",
    "--ddp-static-graph": "gradients are synchronised once per step anyway",
    "--dataset-resampled": "shards are read once per pass, without replacement",
    "--lock-text-freeze-layer-norm": "gains are frozen with their layers",
    "--log-local": "the first rank writes the log",
    "--debug": "what it would say is in the log",
    "--delete-previous-checkpoint": "--keep-last says how many stay",
    "--val-num-samples": "pairs are counted as they are read",
    "--loss-dist-impl": "--loss-schedule says how the loss goes over ranks",
}
WITH_VALUE = ("--val-num-samples", "--loss-dist-impl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.usage = "%(prog)s [--help] [--config FILE] [--<setting> <value> ...]"
    parser.add_argument("--config", type=Path, metavar="FILE",
        help="YAML or JSON of these settings; flags take precedence")  # fmt: skip
    hints = get_type_hints(RunConfig)
    by_name = {f.name: f for f in fields(RunConfig)}
    for title, entries in HELP.items():
        group = parser.add_argument_group(title)
        for name, text in entries.items():
            default = by_name[name].default
            assert default is not MISSING
            told = repr(default) if isinstance(default, str) and default.isspace() else default
            shown = "" if default in (None, False, "") else f" (default: {told})"
            flags = [f"--{name.replace('_', '-')}", *ALIASES.get(name, ())]
            group.add_argument(*flags, help=text + shown, default=None, **_how(name, hints[name]))
    ignored = parser.add_argument_group("open_clip's, accepted and without effect")
    for flag, reason in ACCEPTED.items():
        how = {"metavar": "X"} if flag in WITH_VALUE else {"action": "store_true"}
        ignored.add_argument(flag, help=reason, **how)


def run(args: argparse.Namespace) -> int:
    from fastclip.distributed.processes import Processes
    from fastclip.train.run.directory import RunDirectory
    from fastclip.train.run.stop_signals import INTERRUPTED

    log = processes = directory = status = None
    try:
        config = make_config(args)
        processes = Processes(config.device, config.dist_backend, config.dist_timeout_minutes)
        directory = RunDirectory(config, processes)
        log = _make_log(directory, processes)
        status = _train(directory, processes, log, args)
    except (ArithmeticError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        text = str(error) if processes is None else processes.explain(error)
        print(f"fastclip train: {printable_lines(text)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("fastclip train: SIGINT has ended the run before it trained", file=sys.stderr)
        return INTERRUPTED
    finally:
        if log is not None:
            log.close()
        if directory is not None:
            directory.close()
        if processes is not None:
            processes.leave(together=status is not None)
    return 2 if status is None else status


def make_config(args: argparse.Namespace) -> RunConfig:
    """The settings of flags over those of a file over defaults.

    Raises:
        ValueError: a file has an unknown setting (the nearest is named), or a value is impossible.
        OSError: there is no such file.
    """
    values = {} if args.config is None else read_settings(args.config)
    names = [f.name for f in fields(RunConfig)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return RunConfig(**values | given)


def _train(directory: Any, processes: Any, log: Any, args: Any) -> int:
    from fastclip.train.run.run import Run
    from fastclip.train.settings.cautions import cautions

    config = directory.config
    if directory.caution is not None:
        log.warn(directory.caution)
    for flag, reason in ACCEPTED.items():
        if getattr(args, flag[2:].replace("-", "_")):
            log.warn(f"{flag} has no effect: {reason}")
    for name, reason in idle_settings(config).items():
        log.warn(f"--{name.replace('_', '-')} has no effect: {reason}")
    log.say(str(config.arithmetic(processes.world_size)))
    run = Run(config, processes, directory.path, log)
    log.say(
        f"{config.model}, {sum(p.numel() for p in run.model.parameters()):,} parameters, on "
        f"{processes.world_size} x {processes.device.type}; {run.steps_per_epoch:,} steps per epoch"
    )
    for description in run.data.descriptions():
        log.say(description)
    for notice in run.data.notices():
        log.warn(notice)
    of_settings = cautions(config, run.train_config, run.steps_per_epoch)
    for caution in (run.precision.caution, *of_settings):
        if caution is not None:
            log.warn(caution)
    if processes.is_first:
        _say_what_it_takes(config, run, processes, log)
        run.checkpoints.store.remove_temporaries()
    if config.resume is None:
        log.keep_epochs(0)
    else:
        run.resume(config.resume)
    log.parameters(run.config.to_dict())  # not before: a resume that is refused changes nothing
    return run.train()


def _say_what_it_takes(config: RunConfig, run: Any, processes: Any, log: Any) -> None:
    from fastclip.train.planning import estimate as memory_estimate

    plan = memory_estimate.plan_of(config, run.model, processes.world_size, processes.device)
    size = run.arithmetic.micro_batch_size
    log.say(memory_estimate.describe(plan, size))
    if (objection := memory_estimate.objection(plan, size)) is not None:
        log.warn(objection)


def _make_log(directory: Any, processes: Any) -> Any:
    from fastclip.train.log.reporters import make_reporters
    from fastclip.train.log.run_log import RunLog

    if not processes.is_first:
        return RunLog(None)
    return RunLog(directory.path, make_reporters(directory.config, directory.path))


def _how(name: str, hint: Any) -> dict[str, Any]:
    """How argparse reads a field of this type; None is what is not given."""
    if hint is bool:
        return {"action": "store_true"}
    hint = non_optional(hint)
    if get_origin(hint) is tuple:
        return {"type": get_args(hint)[0], "nargs": "+", "metavar": "X"}
    if get_origin(hint) is dict:
        return {"action": _ReadPairs, "nargs": "*", "metavar": "NAME=VALUE"}
    if name in CHOICES:
        return {"choices": CHOICES[name]}
    return {"type": hint, "metavar": "X"}


class _ReadPairs(argparse.Action):
    """Reads name=value, the value being Python's literal or else a word, as open_clip does."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
        values: list[str], option_string: str | None = None,
    ) -> None:  # fmt: skip
        pairs = {}
        for text in values:
            name, equals, value = text.partition("=")
            if not (name and equals):
                parser.error(f"{option_string} takes name=value, got {text!r}")
            try:
                pairs[name] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                pairs[name] = value
        setattr(namespace, self.dest, pairs)
