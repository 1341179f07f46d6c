"""`fastclip train`: train a model, with open_clip's flags and an explicit global batch.

Every flag is a field of `RunConfig` and a setting of a YAML file, under the same name.
"""

import argparse
import ast
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin

from fastclip.printable import printable_lines
from fastclip.train.settings.config_file import read_settings
from fastclip.train.settings.idle import idle_settings
from fastclip.train.settings.run_config import PARTS, RunConfig
from fastclip.train.settings.setting import About, about, hints_of
from fastclip.train.settings.types import non_optional

DESCRIPTION = """\
Trains a CLIP or SigLIP model on pairs of images and texts, with open_clip's flags and a global
batch of any size: a batch that does not fit into a GPU at once is encoded in micro-batches, with
the same gradients. Every flag may also be a setting in the file of --config.
"""
EPILOG = """\
for example
    fastclip train --train-data "shards/{000..127}.tar" --model ViT-B-32 \\
        --global-batch-size 32768 --micro-batch-size 256 --activation-budget 20GiB
    torchrun --nproc-per-node 2 -m fastclip train --train-data pairs.tsv --batch-size 256
    fastclip train --config run.yaml --resume latest --name my-run
    fastclip train --train-data train.csv --val-data val.csv --model ViT-Mini-4-32 \\
        --batch-size 100 --lr 1e-3 --epochs 8 --name shapes

docs/own-data.md is a guide, from a folder of images to a search in it.
"""
METAVARS = {int: "INT", float: "NUMBER", str: "TEXT"}  # placeholders for values in the help
# Flags of open_clip that have no effect in fastclip, and the reason.
ACCEPTED = {
    "--local-loss": "gradients are exact without it",
    "--gather-with-grad": "gradients are exact without it",
    "--ddp-static-graph": "gradients are synchronised once per step anyway",
    "--dataset-resampled": "shards are read once per pass, without replacement",
    "--lock-text-freeze-layer-norm": "the gains of norms are frozen with their layers",
    "--log-local": "the first rank writes the log",
    "--debug": "the log has its messages anyway",
    "--delete-previous-checkpoint": "--keep-checkpoints sets how many epochs are kept",
    "--val-num-samples": "pairs are counted as they are read",
    "--loss-dist-impl": "--loss-schedule sets how ranks compute the loss together",
}
WITH_VALUE = ("--val-num-samples", "--loss-dist-impl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "%(prog)s [--help] [--config FILE] [--<setting> <value> ...]"
    parser.add_argument("--config", type=Path, metavar="FILE",
        help="Read settings from this YAML or JSON file. Flags take precedence.")  # fmt: skip
    hints = hints_of(RunConfig)
    for title, part in PARTS.items():
        group = parser.add_argument_group(title)
        for field in part.own_fields():
            known = about(field)
            flags = [f"--{field.name.replace('_', '-')}", *known.aliases]
            text = known.help + _shown(field.default)
            how = _how(known, hints[field.name])
            group.add_argument(*flags, help=text, default=None, **how)
    ignored = parser.add_argument_group("flags of open_clip that are accepted but have no effect")
    for flag, reason in ACCEPTED.items():
        how = {"metavar": "TEXT"} if flag in WITH_VALUE else {"action": "store_true"}
        ignored.add_argument(flag, help=f"This flag has no effect: {reason}.", **how)


def run(args: argparse.Namespace) -> int:
    from fastclip.data.loading.bad_samples import DataError
    from fastclip.distributed.processes import Processes
    from fastclip.train.run.directory import RunDirectory
    from fastclip.train.run.stop_signals import INTERRUPTED

    log = processes = directory = status = None
    has_begun = False
    try:
        config = make_config(args)
        processes = Processes(config.device, config.dist_backend, config.dist_timeout_minutes)
        directory = RunDirectory(config, processes)
        log = _make_log(directory, processes)
        run = _start(directory, processes, log, args)
        has_begun = True
        try:
            status = run.train()
        except DataError:
            has_begun = run.global_step > 0  # otherwise there was no data to train on
            raise
    except (ArithmeticError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        text = str(error) if processes is None else processes.explain(error)
        print(f"fastclip train: {printable_lines(text)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("fastclip train: SIGINT ended the run before training began", file=sys.stderr)
        return INTERRUPTED
    finally:
        if log is not None:
            log.close()
        if directory is not None:
            directory.close() if has_begun else directory.discard()
        if processes is not None:
            processes.leave(together=status is not None)
    return 2 if status is None else status


def make_config(args: argparse.Namespace) -> RunConfig:
    """Return the settings of a run: flags override the --config file, which overrides defaults.

    Raises:
        ValueError: the file has an unknown setting (the error names the nearest known one), or a
            value is impossible.
        OSError: there is no such file.
    """
    values = {} if args.config is None else read_settings(args.config)
    names = [f.name for f in fields(RunConfig)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return RunConfig(**values | given)


def _start(directory: Any, processes: Any, log: Any, args: Any) -> Any:
    """Make the run, log what it is and warn about its settings, and resume it if asked to."""
    from fastclip.train.run.cautions import cautions, default_warmup
    from fastclip.train.run.run import Run

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
    for description in () if run.teachers is None else run.teachers.descriptions():
        log.say(description)
    for description in run.evaluation_data.descriptions():
        log.say(description)
    for notice in (*run.data.notices(), *run.evaluation_data.notices()):
        log.warn(notice)
    of_settings = cautions(config, run.train_config, run.steps_per_epoch)
    for caution in (run.precision.caution, *of_settings):
        if caution is not None:
            log.warn(caution)
    if processes.is_first:
        say_what_it_takes(config, run, processes, log)
        run.checkpoints.store.remove_temporaries()
    if config.resume is None:
        log.keep_epochs(0)
    else:
        run.resume(config.resume)
    if (warmup := default_warmup(config, run.train_config)) is not None:
        log.say(warmup)
    log.parameters(run.config.to_dict())  # only now, so that a refused resume changes nothing
    return run


def say_what_it_takes(config: RunConfig, run: Any, processes: Any, log: Any) -> None:
    """Log how much memory a step will need; warn, with advice, if that is too much."""
    from fastclip.train.planning import estimate as memory_estimate

    plan = memory_estimate.plan_of(config, run.model, processes.world_size, processes.device)
    size = run.arithmetic.micro_batch_size
    log.say(memory_estimate.describe(plan, size))
    if (uncounted := memory_estimate.describe_uncounted(run.loss, run.teachers)) is not None:
        log.say(uncounted)
    if (objection := memory_estimate.objection(plan, size)) is not None:
        log.warn(objection)


def _make_log(directory: Any, processes: Any) -> Any:
    from fastclip.train.log.reporters import make_reporters
    from fastclip.train.log.run_log import RunLog

    if not processes.is_first:
        return RunLog(None)
    config = directory.config
    is_resumed = config.resume is not None
    reporters = make_reporters(config, directory.path, config.to_dict(), is_resumed)
    return RunLog(directory.path, reporters)


def _shown(default: Any) -> str:
    """Return the sentence about a default; what None means is part of the help itself."""
    if default is None or default is False or default == "":
        return ""
    return f" The default is {default}."


def _how(known: About, hint: Any) -> dict[str, Any]:
    """Return how argparse reads a field of this type; None means that the flag was not given."""
    if hint is bool:
        return {"action": "store_true"}
    hint = non_optional(hint)
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        return {"type": kind, "nargs": "+", "metavar": known.metavar or METAVARS[kind]}
    if get_origin(hint) is dict:
        return {"action": _ReadPairs, "nargs": "*", "metavar": "NAME=VALUE"}
    if known.choices:
        return {"choices": known.choices}
    return {"type": hint, "metavar": known.metavar or METAVARS[hint]}


class _ReadPairs(argparse.Action):
    """Reads name=value, where value is a Python literal or else a word, as in open_clip."""

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
