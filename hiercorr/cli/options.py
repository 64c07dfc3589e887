"""Options that commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hiercorr.errors import InputError


def data_options(command: Any) -> Any:
    """Which cells, samples and depth."""
    for option in reversed(
        [
            click.option(
                "--sample", metavar="COL", help="Column of obs that names the sample of each cell."
            ),
            click.option(
                "--cell-type",
                metavar="COL=VALUE",
                multiple=True,
                help="Use only these cells; may be repeated.",
            ),
            click.option("--layer", help="Layer with raw counts, or 'raw'; default X."),
            click.option(
                "--depth", metavar="COL", help="Column of obs with the depth; default row sums."
            ),
            click.option(
                "--min-cells", type=int, help="Leave out samples with fewer cells.  [default: 10]"
            ),
        ]
    ):
        command = option(command)
    return command


def output_options(command: Any) -> Any:
    """Where the result goes and what is shown of it."""
    for option in reversed(
        [
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path),
                required=True,
                help="Result: a .zarr or .nc name.",
            ),
            click.option("--overwrite", is_flag=True, help="Replace an existing result."),
            click.option(
                "--rows", default=20, show_default=True, help="Rows of the table shown at the end."
            ),
            click.option("--quiet", is_flag=True, help="No progress and no table."),
        ]
    ):
        command = option(command)
    return command


def subset_of(cell_type: Sequence[str]) -> dict[str, str] | None:
    out = {}
    for text in cell_type:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise InputError(f"--cell-type {text!r} must be COLUMN=VALUE, e.g. cell_type='B cells'")
        out[column] = value
    return out or None


def genes_of(text: str | None) -> int | list[str] | None:
    if text is None:
        return None
    return int(text) if text.isdigit() else [g.strip() for g in text.split(",") if g.strip()]


def finish(result: Any, output: Path, overwrite: bool, rows: int, quiet: bool) -> None:
    result.save(output, overwrite=overwrite)
    if not quiet:
        click.echo(str(result.summary(n=rows)))
        click.echo(f"\nSaved: {output}")


def required(sample: str | None) -> str:
    """The sample column, without which nothing has an n."""
    if sample is None:
        raise InputError("--sample is needed: the column of obs that names the sample of each cell")
    return sample
