"""The command group: errors and warnings in one line."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click

from hiercorr._version import __version__
from hiercorr.errors import InputError
from hiercorr.runtime.log import LOG


class _Group(click.Group):
    """Group that prints errors in one line; its own options may be anywhere on the line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move ``--debug`` and ``--verbose`` to the front."""
        own = [a for a in ("--debug", "--verbose") if a in args]
        return super().parse_args(ctx, own + [a for a in args if a not in own])

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
        invoked = self.commands.get(ctx.invoked_subcommand or "")
        known = (self.commands.get("fit"), invoked)  # messages on results name options of a fit
        flags = {
            opt.removeprefix("--").replace("-", "_"): (opt, getattr(p, "is_flag", False))
            for command in known
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
            if name == "contrast" and value.startswith("("):  # (column, level, baseline)
                value = ",".join(_QUOTED.findall(value)[-2:])
                return f"{flag} {value!r}" if " " in value else f"{flag} {value}"
            value = "" if switch and value == "True" else value.strip("'\"")
            value = _ONE_ENTRY.sub(r"'\1=\2'", value)
            return f"{flag} {value}".rstrip() if value else flag

        text = _MODEL.sub(lambda found: f"hiercorr fit {_as_option(*found.groups())}", text)
        text = text.replace("by dropping rows of samples=", "with subset=")
        text = text.replace("call shrink() first", "add them with hiercorr shrink")
        return _ARGUMENT.sub(option, text)


# name=value or name= as in "pass overwrite=True" and "lower min_cells= or choose others"
_ARGUMENT = re.compile(
    r"(?:(?<![\w.'\"(-])|(?<=\s\()(?=\w+=\)))([a-z]\w*)="
    r"('[^']*'|\"[^\"]*\"|\{[^}]*\}|\[[^]]*\]|\('[^()]*'\)|[\w.~-]*\w)?(?!\w)"
)
_QUOTED = re.compile(r"'([^']*)'")
_MODEL = re.compile(r"CSCore\(([a-z_]+)=('[^']*'|True)\)")  # as in "CSCore(depth_adjust=True)"
_ONE_ENTRY = re.compile(r"^\{'([^']*)': '([^']*)'\}$")  # as in "depth={'rna': 'column of obs'}"


def _as_option(name: str, value: str) -> str:
    flag = f"--{name.replace('_', '-')}"
    word = value.strip("'")
    return flag if value == "True" else f"{flag} {value if ' ' in word else word}"


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
@click.option("--verbose", is_flag=True, help="Log each step with its time to standard error.")
@click.pass_context
def main(ctx: click.Context, debug: bool, verbose: bool) -> None:
    """Estimate gene-gene correlation from single-cell counts, with samples as the units."""
    if verbose:
        _log_to_stderr(ctx)


def _log_to_stderr(ctx: click.Context) -> None:
    """Write the messages of the package's logger to standard error until the command ends."""
    handler, before = logging.StreamHandler(), LOG.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)

    def restore() -> None:
        LOG.removeHandler(handler)
        LOG.setLevel(before)

    ctx.call_on_close(restore)
