"""Options shared by several commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hiercorr.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Command = Callable[..., Any]

layer_option = click.option("--layer", help="Layer with raw counts, or 'raw'.  [default: X]")
depth_option = click.option(
    "--depth",
    metavar="COL",
    multiple=True,
    help="Column of obs with sequencing depth, 'total' (all genes) or 'trimmed' (without "
    "dominating ones); TYPE=COL for a type of features, repeatable.  [default: trimmed]",
)
gene_names_option = click.option(
    "--gene-names",
    metavar="COL",
    help="Column of var with gene names, such as symbols; ids are kept.  [default: names of var]",
)
min_cells_option = click.option(
    "--min-cells", type=int, help="Minimum number of cells per sample.  [default: 10]"
)
_DATA = (
    click.option(
        "--sample",
        metavar="COL",
        multiple=True,
        help="Column of obs with the sample of each cell; two columns: their combinations.",
    ),
    click.option(
        "--subset",
        "--cell-type",
        metavar="COL=VALUE",
        multiple=True,
        help="Use only these cells; repeatable: values of one column add up, columns restrict.",
    ),
    layer_option,
    depth_option,
    gene_names_option,
    min_cells_option,
)
_OUTPUT = (
    click.option(
        "-o",
        "--output",
        "path",
        type=click.Path(path_type=Path),
        required=True,
        help="Name of the result, ending in .zarr or .nc.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace an existing result."),
    click.option(
        "--rows",
        type=click.IntRange(min=1),
        default=20,
        show_default=True,
        help="Number of rows of the printed table.",
    ),
    click.option("--quiet", is_flag=True, help="Print neither progress nor a table."),
)


def targets_of(values: Sequence[str]) -> str | list[str] | None:
    """Parse ``--target``: genes, or files with one gene per line."""
    found: list[str] = []
    for value in values:
        path = Path(value)
        if path.is_file():
            try:
                found += path.read_text(encoding="utf-8").split()
            except UnicodeDecodeError as error:
                raise InputError(f"--target {value!r} is not a text file ({error})") from error
        else:
            found.append(value)
    if values and not found:
        raise InputError(f"--target {values[0]!r} is a file without names")
    return None if not found else found[0] if len(found) == 1 else found


target_option = click.option(
    "--target",
    metavar="GENE",
    multiple=True,
    callback=lambda context, option, value: targets_of(value),
    help="Estimate this gene against all others only; repeatable, or a file with one gene per "
    "line.",
)
pairs_option = click.option(
    "--pairs",
    metavar="FILE",
    help="Estimate these pairs only: a table with the columns gene_a and gene_b, two columns, or "
    "a .gmt file of genes and their partners.",
)
sets_option = click.option(
    "--sets", metavar="FILE", required=True, help="Modules of genes, a GMT file."
)
module_weights_option = click.option(
    "--weights",
    type=click.Choice(["equal", "expression", "eigengene"]),
    help="Weights of the genes of a module.  [default: equal]",
)
rows_option = click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Number of rows to print.",
)
_TABLE = (
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=True,
        help="Name of the table, ending in .csv, .tsv, .parquet or .xlsx.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace an existing table."),
    rows_option,
)
genes_option = click.option(
    "--genes", metavar="N", help="The N most highly expressed genes, or names separated by commas."
)
cell_covariates_option = click.option(
    "--covariates", metavar="FORMULA", help="Covariates of cells, e.g. '~ percent_mito + phase'."
)
moderated_option = click.option(
    "--moderated",
    type=click.Choice(["none", "plain", "trend", "robust", "trend+robust"]),
    help="Regressions between samples: empirical-Bayes moderation of residual variances.  "
    "[default: plain for 20 genes or more]",
)
block_option = click.option(
    "--block", metavar="COL", help="Column of obs with the donor of each sample."
)
block_method_option = click.option(
    "--block-method",
    type=click.Choice(["fixed", "correlation"]),
    help="How donors with several samples enter.  [default: fixed]",
)
permutations_option = click.option(
    "--permutations",
    type=int,
    help="Number of permutations for p-values (all, if there are no more).",
)
modalities_option = click.option(
    "--modalities",
    metavar="TYPES",
    help="Types of features, separated by commas, each with its own depth, or 'all'.  "
    "[default: genes]",
)
depth_adjust_option = click.option(
    "--depth-adjust",
    is_flag=True,
    default=None,
    help="within: regress log depth out of the counts of each sample.",
)
weights_option = click.option(
    "--weights",
    type=click.Choice(["adaptive", "equal", "information"]),
    help="within: weights of the donors.  [default: adaptive if hierarchical, else information]",
)
uncertainty_option = click.option(
    "--uncertainty",
    type=click.Choice(["hierarchical", "jackknife", "cluster", "bootstrap", "none"]),
    help="within, pooled: inference over donors.  [default: hierarchical within samples, "
    "jackknife if there are few genes]",
)


@dataclass(frozen=True)
class Output:
    """Destination of a result, and how much of it is printed."""

    path: Path
    overwrite: bool
    rows: int
    quiet: bool

    @property
    def progress(self) -> bool | None:
        """The option ``progress`` of a fit."""
        return False if self.quiet else None

    def check(self) -> None:
        """Raise an error if the result cannot be saved."""
        from hiercorr.results.storage import check_target

        check_target(self.path, self.overwrite)

    def finish(self, result: Any, table: Callable[[], str]) -> None:
        """Save a result and print a table of it."""
        result.save(self.path, overwrite=self.overwrite)
        if not self.quiet:
            click.echo(table())
            click.echo(f"\nSaved: {self.path}")

    def summarise(self, result: Any) -> None:
        """Save a result and print its summary."""
        self.finish(result, lambda: str(result.summary(n=self.rows)))


def data_options(command: Command) -> Command:
    """Add the options that select cells, passed to the command as the mapping `data_options`.

    Parameters
    ----------
    command : callable
        It gets the arguments sample, layer, depth, gene_names, min_cells and subset, without those
        left out.

    Returns
    -------
    callable
    """

    @wraps(command)
    def call(
        subset: Sequence[str],
        sample: Sequence[str],
        layer: str | None,
        depth: Sequence[str],
        gene_names: str | None,
        min_cells: int | None,
        **options: Any,
    ) -> Any:
        chosen = {
            "sample": sample_of(sample),
            "layer": layer,
            "depth": depth_of(depth),
            "gene_names": gene_names,
            "min_cells": min_cells,
            "subset": subset_of(subset),
        }
        return command(data_options=given(chosen), **options)

    return _with_options(call, _DATA)


def output_options(command: Command) -> Command:
    """Add the options of the output, passed to the command as `output`."""

    @wraps(command)
    def call(path: Path, overwrite: bool, rows: int, quiet: bool, **options: Any) -> Any:
        return command(output=Output(path, overwrite, rows, quiet), **options)

    return _with_options(call, _OUTPUT)


def _with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def with_options(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Return a decorator that adds several options, the first one first."""
    return lambda command: _with_options(command, options)


table_options = with_options(_TABLE)


def table_text(table: pd.DataFrame) -> str:
    """Write a table as text: p-values with two digits, other numbers with three.

    A table without rows is stated to be empty.
    """
    from hiercorr.results.text import format_cell

    if table.empty:
        return "No pairs."
    out = table.astype(object)
    for column in table.select_dtypes("floating"):
        out[column] = [format_cell(str(column), float(v)) for v in table[column]]
    return str(out.to_string())


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Drop the options that were not given."""
    return {k: v for k, v in options.items() if v is not None}


def sample_of(columns: Sequence[str]) -> str | tuple[str, str] | None:
    """Return the column or the two columns of ``--sample``."""
    if len(columns) > 2:
        raise InputError(f"--sample was given {len(columns)} times; name one or two columns")
    return (columns[0], columns[1]) if len(columns) == 2 else columns[0] if columns else None


def subset_of(texts: Sequence[str], option: str = "--subset") -> dict[str, str | list[str]] | None:
    """Parse ``--subset COLUMN=VALUE``, or another option; values of one column add up."""
    out: dict[str, list[str]] = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise InputError(f"{option} {text!r} must be COLUMN=VALUE, such as 'kind=B cells'")
        out.setdefault(column, [])
        if value not in out[column]:
            out[column].append(value)
    return {c: v[0] if len(v) == 1 else v for c, v in out.items()} or None


def depth_of(texts: Sequence[str]) -> str | dict[str, str] | None:
    """Parse ``--depth COLUMN``, or ``--depth TYPE=COLUMN`` for each type of features."""
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    out: dict[str, str] = {}
    for text in texts:
        kind, equals, column = text.rpartition("=")
        if not equals or not kind:
            raise InputError(
                f"--depth {text!r}: several depths must be TYPE=COLUMN, e.g. "
                "'Antibody Capture=isotype'"
            )
        if kind in out:
            raise InputError(f"--depth names the type {kind!r} twice")
        out[kind] = column
    return out or None


def members_of(text: str) -> list[str]:
    """Parse ``--members``: a file with one gene per line, or genes separated by commas."""
    path = Path(text)
    if os.path.isfile(path):  # unlike Path.is_file, also of a long list of genes
        try:
            return path.read_text(encoding="utf-8").split()
        except UnicodeDecodeError as error:
            raise InputError(f"--members {text!r} is not a text file ({error})") from error
    genes = [g.strip() for g in text.split(",") if g.strip()]
    if len(genes) < 2:
        raise InputError(
            f"--members {text!r} is neither a file nor several genes separated by commas"
        )
    return genes


def genes_of(text: str | None) -> int | list[str] | None:
    """Parse ``--genes``, a number or names separated by commas."""
    if text is None:
        return None
    return int(text) if text.isdigit() else [g.strip() for g in text.split(",") if g.strip()]


def gene_list_of(text: str | None) -> int | list[str] | None:
    """Parse ``--genes-a``: a file with one gene per line, a number, or names."""
    if text is None or not Path(text).is_file():
        return genes_of(text)
    return members_of(text)


def moderated_of(text: str | None) -> bool | str | None:
    """Return the option ``moderated`` of a fit."""
    return text == "plain" if text in ("none", "plain") else text


def modalities_of(text: str | None) -> str | list[str] | None:
    """Parse ``--modalities``: types of features separated by commas, or all."""
    if text is None:
        return None
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    return kinds[0] if len(kinds) == 1 else kinds


def require_sample(data_options: dict[str, Any]) -> None:
    """Raise an error if no sample column was named."""
    if data_options.get("sample") is None:
        raise InputError("--sample is needed: the column of obs with the sample of each cell")
