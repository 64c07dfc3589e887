"""The command group: errors and warnings in one line."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click

from hiercorr._version import __version__
from hiercorr.errors import InputError


class _Group(click.Group):
    """Group that prints errors in one line; ``--debug``, anywhere on the line, shows tracebacks."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move ``--debug`` to the front."""
        rest = [a for a in args if a != "--debug"]
        return super().parse_args(ctx, ["--debug"] * (len(rest) < len(args)) + rest)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command and print its errors and warnings."""
        debug = bool(ctx.params.get("debug"))
        with warnings.catch_warnings():
            if not debug:
                warnings.showwarning = _one_line_warnings(lambda t: self._in_options(ctx, t))
            try:
                return super().invoke(ctx)
            except BrokenPipeError:  # a reader such as head has closed the pipe
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                ctx.exit(0)
            except (InputError, FileExistsError, ImportError, OSError, MemoryError) as error:
                if debug:
                    raise
                click.echo(f"hiercorr: error: {self._in_options(ctx, str(error))}", err=True)
                ctx.exit(2)

    def _in_options(self, ctx: click.Context, text: str) -> str:
        """Write the arguments of Python in a message as options of the command."""
        command = self.commands.get(ctx.invoked_subcommand or "")
        flags = {
            opt.removeprefix("--").replace("-", "_"): (opt, getattr(p, "is_flag", False))
            for p in (command.params if command else [])
            for opt in p.opts
            if opt.startswith("--")
        }
        if "output" in flags:  # the name of a file in functions that write one
            flags.setdefault("path", flags["output"])

        def option(found: re.Match[str]) -> str:
            name, value = found[1], found[2] or ""
            if name not in flags:
                return found[0]
            flag, switch = flags[name]
            value = "" if switch and value == "True" else value.strip("'\"")
            return f"{flag} {value}".rstrip() if value else flag

        return _ARGUMENT.sub(option, text)


# name=value or name= as in "pass overwrite=True" and "lower min_cells= or choose others"
_ARGUMENT = re.compile(
    r"(?<![\w.'\"(-])([a-z]\w*)=('[^']*'|\"[^\"]*\"|\{[^}]*\}|\[[^]]*\]|[\w.~-]*\w)?(?!\w)"
)


def _one_line_warnings(translated: Callable[[str], str]) -> Any:
    """Make a function that prints every warning of hiercorr once, in one line."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category.__module__.startswith("hiercorr") and str(message) not in shown:
            shown.add(str(message))
            click.echo(f"hiercorr: warning: {translated(str(message))}", err=True)

    return show


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hiercorr")
@click.option("--debug", is_flag=True, help="Show tracebacks and all warnings.")
def main(debug: bool) -> None:
    """Estimate gene-gene correlation from single-cell counts, with samples as the units."""
