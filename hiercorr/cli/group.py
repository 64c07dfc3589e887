"""The command itself: errors and warnings in one line."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import click

from hiercorr._version import __version__
from hiercorr.errors import InputError


class _Group(click.Group):
    """Errors in one line without a traceback; ``--debug``, anywhere on the line, shows it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = [a for a in args if a != "--debug"]
        return super().parse_args(ctx, ["--debug"] * (len(rest) < len(args)) + rest)

    def invoke(self, ctx: click.Context) -> Any:
        debug = bool(ctx.params.get("debug"))
        with warnings.catch_warnings():
            if not debug:
                warnings.showwarning = _one_line_warnings()
            try:
                return super().invoke(ctx)
            except BrokenPipeError:  # the reader, such as head, has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                ctx.exit(0)
            except (InputError, FileExistsError, ImportError, OSError, MemoryError) as error:
                if debug:
                    raise
                click.echo(f"hiercorr: error: {error}", err=True)
                ctx.exit(2)


def _one_line_warnings() -> Any:
    """Print each of our warnings once, in one line."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category.__module__.startswith("hiercorr") and str(message) not in shown:
            shown.add(str(message))
            click.echo(f"hiercorr: warning: {message}", err=True)

    return show


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hiercorr")
@click.option("--debug", is_flag=True, help="Show the traceback of an error and every warning.")
def main(debug: bool) -> None:
    """Gene-gene correlation from single-cell counts, with samples as the units."""
