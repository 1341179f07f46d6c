"""The `fastclip` command: `COMMANDS` lists its subcommands, each a module of `fastclip.commands`.

A subcommand's module has `add_arguments(parser)` and `run(args) -> int | None`. It is imported only
when a user calls the subcommand, so that `fastclip doctor` needs none of the extras of
`fastclip demo`. If the words of one argument may stand before and after options, the module's
`WORDS` is the name of that argument.

Ctrl-C ends a command with one line. A command that knows which results are complete by then raises
a `KeyboardInterrupt` whose text says so.
"""

import argparse
import contextlib
import difflib
import errno
import importlib
import os
import select
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from fastclip.commands.completion import SHELLS
from fastclip.installation import PACKAGE, advice_on_hidden_package
from fastclip.printable import printable_lines

CLOSED_PIPE = 141  # 128 + SIGPIPE: a shell's status for a program whose reader went away
STOPPED = 130  # 128 + SIGINT: a shell's status for a program that Ctrl-C ended
COMMANDS = {  # in the order in which a user needs them
    "demo": "train a small CLIP on images of digits, with the fused loss",
    "plan": "count the GPU memory that a batch size needs, and say what fits",
    "train": "train a CLIP model on your pairs, with a batch of any size",
    "plot": "draw a run's loss, learning rate, scale, recall and batch curve",
    "eval": "evaluate a trained model: zero-shot, retrieval, linear probes",
    "classify": "say which of your classes each image shows",
    "embed": "encode images and texts, and write their vectors to files",
    "index": "prepare vectors for fast searches that compare scores with chance",
    "search": "find the images or texts nearest to a query",
    "duplicates": "list groups of near duplicates among images or texts",
    "serve": "serve a search page for browsers and endpoints for programs",
    "convert": "rewrite weights for open_clip, transformers or openai/CLIP",
    "export": "write both towers as ONNX, for programs without torch",
    "doctor": "print what is installed and which backends run here",
    "verify": "check and time the GPU kernels on your GPU, for backend='auto' to use",
    "bench": "time losses against each other and count their memory",
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    status = 0
    try:
        try:
            status = _run(arguments, chosen)
        except KeyboardInterrupt as stop:
            status = STOPPED
            told = f"; {printable_lines(str(stop))}" if str(stop) else ""
            print(f"fastclip{f' {chosen}' if chosen else ''}: stopped{told}", file=sys.stderr)
        sys.stdout.flush()
    except OSError as error:
        # A terminal that is gone reports EIO.
        if error.errno not in (errno.EPIPE, errno.EIO) or not _has_lost_its_reader(sys.stdout):
            raise  # another pipe or connection broke
        # The reader of our output, such as `head`, has seen enough; Python must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status or CLOSED_PIPE
    return status


def _run(arguments: list[str], chosen: str | None) -> int:
    parser = argparse.ArgumentParser(
        prog="fastclip", description="CLIP models, and their loss without the N x N logits."
    )
    parser.add_argument("-V", "--version", action="store_true", help="print the version and exit")
    parser.add_argument(
        "--completion", choices=SHELLS,
        help="print a script that completes commands and flags in this shell, and exit",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    command = None
    for name, summary in COMMANDS.items():
        subparser = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            try:
                command = importlib.import_module(f"fastclip.commands.{name}")
            except ModuleNotFoundError as error:
                if error.name != "fastclip.benchmarks":
                    raise
                print(f"fastclip {name}: {_no_benchmarks()}", file=sys.stderr)
                return 2
            command.add_arguments(subparser)
    if (hidden := advice_on_hidden_package()) is not None and command is not None:
        print(f"fastclip {chosen}: {hidden}", file=sys.stderr)
    args, unknown = parser.parse_known_args(arguments)
    words = getattr(command, "WORDS", None)
    if unknown and words and all(word == "-" or word[:1] != "-" for word in unknown):
        # argparse takes a list only from adjacent words; people write some after options.
        setattr(args, words, getattr(args, words) + unknown)
        unknown = []
    if unknown:
        chosen_parser = commands.choices.get(args.command, parser)
        chosen_parser.error(_objection_to(unknown, chosen_parser))
    if args.version:
        from fastclip import __version__

        print(__version__)
        return 0
    if args.completion is not None:
        print(_completion(args.completion, parser, commands.choices), end="")
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    return command.run(args) or 0


def _completion(
    shell: str,
    parser: argparse.ArgumentParser,
    parsers: Mapping[str, argparse.ArgumentParser],
) -> str:
    """Return the script for a shell; nothing else needs the flags of all commands."""
    from fastclip.commands.completion import completion, flags_of

    found = {}
    for name, subparser in parsers.items():
        with contextlib.suppress(ModuleNotFoundError):  # `bench`, in a source tree
            importlib.import_module(f"fastclip.commands.{name}").add_arguments(subparser)
        found[name] = flags_of(subparser, COMMANDS[name])
    return completion(shell, found, flags_of(parser, ""))


def _has_lost_its_reader(output: TextIO) -> bool:
    poll = select.poll()
    poll.register(output, 0)  # errors, which poll reports even for the mask 0
    return bool(poll.poll(0))


def _no_benchmarks() -> str:
    """Return what to do in a source tree, which has the benchmarks elsewhere: pyproject.toml."""
    advice = advice_on_hidden_package() or f"{PACKAGE} is a source tree: pip install it"
    return f"fastclip.benchmarks is part of the installed package; {advice}"


def _objection_to(unknown: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Return an error about unknown arguments that names the nearest known flag, if any."""
    flags = (flag for action in parser._actions for flag in action.option_strings)
    known = {flag.lstrip("-"): flag for flag in flags}
    first = next((word for word in unknown if word[:1] == "-"), unknown[0])
    name = first.partition("=")[0].lstrip("-")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    hint = f"; nearest: {known[near[0]]}" if near else ""
    return f"unrecognized arguments: {' '.join(unknown)}{hint}"


if __name__ == "__main__":
    sys.exit(main())
