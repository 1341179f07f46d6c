"""The `fastclip` command: one line per subcommand, each in the module that does the work.

A subcommand's module offers `add_arguments(parser)` and `run(args) -> int | None` and is imported
only when it is asked for, so that `fastclip doctor` needs none of the extras of `fastclip demo`.
"""

import argparse
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
    args = parser.parse_args(arguments)
    if args.version:
        from fastclip import __version__

        print(__version__)
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    return command.run(args) or 0


if __name__ == "__main__":
    sys.exit(main())
