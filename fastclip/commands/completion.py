"""Shell completion for `fastclip`: makes a script from the commands' own parsers.

The script is a table of words: the subcommands, the flags of each, and the values of flags that
have a fixed set of choices. The shell completes everything else as the name of a file.
"""

import argparse
import shlex
from collections.abc import Mapping
from typing import NamedTuple

SHELLS = ("bash", "zsh", "fish")


class Flags(NamedTuple):
    """What completion needs to know about one command.

    Attributes:
        summary: what the command does, in one line.
        values: maps each flag to the values that may follow it: None if the flag takes no value,
            an empty tuple if any value may follow.
        helps: maps each flag to its help in one line.
    """

    summary: str
    values: dict[str, tuple[str, ...] | None]
    helps: dict[str, str]


def flags_of(parser: argparse.ArgumentParser, summary: str) -> Flags:
    """Return the flags of a command's parser, with the given summary of the command."""
    values: dict[str, tuple[str, ...] | None] = {}
    helps: dict[str, str] = {}
    for action in parser._actions:
        for flag in action.option_strings:
            takes_none = action.nargs == 0
            values[flag] = None if takes_none else tuple(map(str, action.choices or ()))
            text = (action.help or "").replace("%(default)s", str(action.default))
            helps[flag] = " ".join(text.split()).split(". ")[0].rstrip(".")
    return Flags(summary, values, helps)


def completion(shell: str, commands: Mapping[str, Flags], own: Flags) -> str:
    """Return the completion script for a shell.

    Args:
        shell: one of `SHELLS`.
        commands: maps the name of each subcommand to its flags.
        own: the flags of `fastclip` itself.

    Raises:
        ValueError: `shell` is not one of `SHELLS`.
    """
    if shell not in SHELLS:
        raise ValueError(f"completion must be for one of {', '.join(SHELLS)}, got {shell!r}")
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands, own)


def _bash(commands: Mapping[str, Flags], own: Flags) -> str:
    values = [
        f"        {name}:{flag}) words={shlex.quote(' '.join(choices))} ;;"
        for name, flags in commands.items()
        for flag, choices in flags.values.items()
        if choices
    ]
    anything = [
        f"        {name}:{flag}) return ;;"
        for name, flags in commands.items()
        for flag, choices in flags.values.items()
        if choices == ()
    ]
    words = [
        f"        {name}) words={shlex.quote(' '.join(flags.values))} ;;"
        for name, flags in commands.items()
    ]
    first = " ".join([*commands, *own.values])
    return "\n".join([
        "# Completion of fastclip for bash: write this script once, and source it in ~/.bashrc",
        "#     fastclip --completion bash > ~/.fastclip-completion",
        "_fastclip() {",
        '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
        '    local command="${COMP_WORDS[1]}" words=""',
        "    COMPREPLY=()",
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then",
        f"        COMPREPLY=($(compgen -W {shlex.quote(first)} -- \"$current\"))",
        "        return",
        "    fi",
        '    case "$command:$previous" in',
        *values,
        *anything,
        "    esac",
        '    if [ -z "$words" ] && [[ "$current" == -* ]]; then',
        '        case "$command" in',
        *[line.replace("        ", "            ", 1) for line in words],
        "        esac",
        "    fi",
        '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _fastclip fastclip",
        "",
    ])  # fmt: skip


def _zsh(commands: Mapping[str, Flags], own: Flags) -> str:
    # zsh can run completion scripts for bash, so that both share one table of words and one logic.
    return "\n".join([
        "# Completion of fastclip for zsh: write this script once, and source it in ~/.zshrc,",
        "# after compinit:",
        "#     fastclip --completion zsh > ~/.fastclip-completion",
        "autoload -Uz bashcompinit && bashcompinit",
        *_bash(commands, own).splitlines()[2:],
        "",
    ])  # fmt: skip


def _fish(commands: Mapping[str, Flags], own: Flags) -> str:
    lines = [
        "# Completion of fastclip for fish: write this script to the folder that fish reads:",
        "#     fastclip --completion fish > ~/.config/fish/completions/fastclip.fish",
    ]
    for flag in own.values:
        lines.append(_fish_flag("__fish_use_subcommand", flag, own))
    for name, flags in commands.items():
        summary = shlex.quote(flags.summary)
        lines.append(f"complete -c fastclip -n __fish_use_subcommand -f -a {name} -d {summary}")
        where = shlex.quote(f"__fish_seen_subcommand_from {name}")
        lines += [_fish_flag(where, flag, flags) for flag in flags.values]
    return "\n".join([*lines, ""])


def _fish_flag(where: str, flag: str, flags: Flags) -> str:
    kind = "-l" if flag.startswith("--") else "-s"
    text = f"complete -c fastclip -n {where} {kind} {flag.lstrip('-')}"
    choices = flags.values[flag]
    if choices:
        text += f" -x -a {shlex.quote(' '.join(choices))}"
    elif choices is not None:
        text += " -r"
    return f"{text} -d {shlex.quote(flags.helps[flag])}"
