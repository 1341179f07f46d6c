"""The `fastclip` command: one line per subcommand, each in a module of `fastclip.commands`.

A subcommand's module offers `add_arguments(parser)` and `run(args) -> int | None` and is imported
only when it is asked for, so that `fastclip doctor` needs none of the extras of `fastclip demo`. If
words may stand on both sides of options, its `WORDS` is the name of the argument that has them.

Ctrl-C ends a command with one line. A command that knows what is complete by then raises a
`KeyboardInterrupt` with a text that says it.
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

CLOSED_PIPE = 141  # 128 + SIGPIPE: what a shell says of a program whose reader went away
STOPPED = 130  # 128 + SIGINT: what it says of one that Ctrl-C has ended
COMMANDS = {  # in the order of a user's work
    "demo": "train a small CLIP on images of digits, with the fused loss",
    "plan": "what a batch size takes of a GPU's memory, and what fits",
    "train": "train on your pairs, with a batch of any size",
    "plot": "draw a run: loss, learning rate, scale, recall, batch curve",
    "eval": "evaluate a trained model: zero-shot, retrieval, linear probes",
    "classify": "say which of your classes images show",
    "embed": "turn images and texts into files of vectors",
    "index": "prepare vectors for searches that know what chance gives",
    "search": "find the images or texts nearest to a query",
    "duplicates": "list near duplicates among images or texts, as groups",
    "serve": "search in a browser, and endpoints for programs",
    "convert": "rewrite weights for open_clip, transformers or openai/CLIP",
    "export": "write both towers as ONNX, for programs without torch",
    "doctor": "print what is installed and which backends run here",
    "verify": "check and time the kernels for a GPU on yours, and tell backend='auto'",
    "bench": "time losses against each other and count memory",
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
        # EIO is what a terminal says that is gone.
        if error.errno not in (errno.EPIPE, errno.EIO) or not _has_lost_its_reader(sys.stdout):
            raise  # of another pipe or connection
        # Who read our output, `head` for example, has seen enough; Python must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status or CLOSED_PIPE
    return status


def _run(arguments: list[str], chosen: str | None) -> int:
    parser = argparse.ArgumentParser(
        prog="fastclip", description="The CLIP loss without the N x N logits."
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
        # argparse takes words of a list that stand together; people write some behind options.
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
    """The script for a shell; here alone the flags of all commands are asked for."""
    from fastclip.commands.completion import completion, flags_of

    found = {}
    for name, subparser in parsers.items():
        with contextlib.suppress(ModuleNotFoundError):  # `bench`, in a source tree
            importlib.import_module(f"fastclip.commands.{name}").add_arguments(subparser)
        found[name] = flags_of(subparser, COMMANDS[name])
    return completion(shell, found, flags_of(parser, ""))


def _has_lost_its_reader(output: TextIO) -> bool:
    poll = select.poll()
    poll.register(output, 0)  # errors alone, which are reported in any case
    return bool(poll.poll(0))


def _no_benchmarks() -> str:
    """A source tree has them elsewhere, see pyproject.toml."""
    advice = advice_on_hidden_package() or f"{PACKAGE} is a source tree: pip install it"
    return f"fastclip.benchmarks is part of the installed package; {advice}"


def _objection_to(unknown: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """What is wrong with arguments that nobody takes, with the nearest that somebody does."""
    flags = (flag for action in parser._actions for flag in action.option_strings)
    known = {flag.lstrip("-"): flag for flag in flags}
    first = next((word for word in unknown if word[:1] == "-"), unknown[0])
    name = first.partition("=")[0].lstrip("-")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    hint = f"; nearest: {known[near[0]]}" if near else ""
    return f"unrecognized arguments: {' '.join(unknown)}{hint}"


if __name__ == "__main__":
    sys.exit(main())
