"""The `fastclip` command: one line per subcommand, each in the module that does the work.

A subcommand's module offers `add_arguments(parser)` and `run(args) -> int | None` and is imported
only when it is asked for, so that `fastclip doctor` needs none of the extras of `fastclip demo`.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "demo": ("fastclip.train.demo", "train a small CLIP on images of digits, with the fused loss"),
    "train": ("fastclip.train.command", "train on your pairs, with a batch of any size"),
    "bench": ("fastclip.benchmarks.command", "time losses against each other and count memory"),
    "convert": ("fastclip.convert", "rewrite weights for open_clip, transformers or openai/CLIP"),
    "plan": ("fastclip.train.plan", "what a batch size takes of a GPU's memory, and what fits"),
    "doctor": ("fastclip.doctor", "print what is installed and which backends run here"),
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="fastclip", description="The CLIP loss without the N x N logits."
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        subparser = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            command = importlib.import_module(module)
            command.add_arguments(subparser)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        chosen_parser = commands.choices.get(args.command, parser)
        chosen_parser.error(_objection_to(unknown, chosen_parser))
    if args.version:
        from fastclip import __version__

        print(__version__)
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    return command.run(args) or 0


def _objection_to(unknown: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """What is wrong with arguments that nobody takes, with the nearest that somebody does."""
    known = [flag for action in parser._actions for flag in action.option_strings]
    name = unknown[0].partition("=")[0]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; nearest: {near[0]}" if near else ""
    return f"unrecognized arguments: {' '.join(unknown)}{hint}"


if __name__ == "__main__":
    sys.exit(main())
