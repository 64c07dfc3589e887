"""Commands that make tables: show, export and evidence of saved results, variability of genes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hiercorr.cli.group import main
from hiercorr.cli.options import (
    block_option,
    data_options,
    genes_of,
    genes_option,
    given,
    modalities_of,
    modalities_option,
    require_sample,
    rows_option,
    table_options,
    table_text,
    target_option,
    with_options,
)
from hiercorr.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from hiercorr.results import CorrelationResult
    from hiercorr.results.cell_types import CellTypes

_selection = (
    click.argument("result", type=click.Path(path_type=Path)),
    click.option(
        "--target", metavar="GENE", help="Only the partners of this gene.  [default: all pairs]"
    ),
    click.option("--q", type=float, help="Only pairs with a q-value of at most this."),
    click.option(
        "--sort",
        "sort_by",
        type=click.Choice(["p_value", "shrunken"]),
        default="p_value",
        show_default=True,
        help="Strongest evidence first, or largest shrunken estimate.",
    ),
)


@main.command()
@with_options(_selection)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Number of rows.",
)
def show(result: Path, rows: int, **selection: Any) -> None:
    """Print what a saved RESULT is and its pairs with the strongest evidence."""
    from hiercorr import load

    fitted = load(result)
    table = _selected(fitted, n=rows, **selection)
    click.echo(f"{fitted!r}\n")
    click.echo(table_text(table))


@main.command()
@with_options(_selection)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Name of the table, ending in .csv, .tsv, .parquet or .xlsx.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing table.")
@click.option(
    "--gene-ids", is_flag=True, help="Add the ids of the genes of a fit with --gene-names."
)
def export(result: Path, output: Path, overwrite: bool, gene_ids: bool, **selection: Any) -> None:
    """Write the pairs of a saved RESULT as a table."""
    from hiercorr import load
    from hiercorr.results.table_files import check_table_path, write_table
    from hiercorr.results.tables import with_ids

    check_table_path(output, overwrite)
    fitted = load(result)
    table = _selected(fitted, **selection)
    if gene_ids:
        table = with_ids(table, _ids(fitted))
    click.echo(f"Saved: {write_table(table, output)} ({len(table):,} rows)")


@main.command()
@click.argument("within", type=click.Path(path_type=Path))
@click.argument("between", type=click.Path(path_type=Path))
@target_option
@click.option("--q", type=float, default=0.05, show_default=True, help="Threshold of the q-values.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Name of the table, ending in .csv, .tsv, .parquet or .xlsx.  [default: print only]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing table.")
@rows_option
def evidence(
    within: Path,
    between: Path,
    target: str | list[str] | None,
    q: float,
    output: Path | None,
    overwrite: bool,
    rows: int,
) -> None:
    """Classify pairs by their evidence in the saved results WITHIN and BETWEEN samples.

    Without --target, the pairs are those that both results have: the partners of their target,
    those of several targets, or the listed pairs.
    """
    from hiercorr import evidence as classify
    from hiercorr import load
    from hiercorr.results import CorrelationResult
    from hiercorr.results.table_files import check_table_path, write_table

    if output is not None:
        check_table_path(output, overwrite)
    fitted: list[Any] = [load(within), load(between)]
    for path, result in zip((within, between), fitted, strict=True):
        if not isinstance(result, CorrelationResult):
            raise InputError(
                f"{str(path)!r} has several cell types: classify the evidence of each by itself"
            )
    found = classify(target, fitted[0], fitted[1], q=q)
    counts = ", ".join(f"{n} {name}" for name, n in found.counts().items())
    click.echo(f"Evidence for {found.target or found.scope} at q < {q:g}: {counts}\n")
    click.echo(table_text(found.table.head(rows)))
    if output is not None:
        click.echo(f"\nSaved: {write_table(found.table, output)} ({len(found.table):,} rows)")


def _ids(fitted: CorrelationResult | CellTypes) -> dict[str, str]:
    """Return the ids of the genes by their names."""
    from hiercorr.results.cell_types import CellTypes
    from hiercorr.results.tables import id_by_name

    parts = fitted.results.values() if isinstance(fitted, CellTypes) else [fitted]
    return {name: i for part in parts for name, i in id_by_name(part.dataset).items()}


def _selected(
    fitted: CorrelationResult | CellTypes,
    target: str | None,
    q: float | None,
    sort_by: str,
    n: int | None = None,
) -> pd.DataFrame:
    """Tabulate the pairs of a result, or the partners of a gene."""
    from hiercorr.results.cell_types import CellTypes
    from hiercorr.results.tables import selected

    if isinstance(fitted, CellTypes):
        if target is not None or sort_by != "p_value":
            raise InputError(
                "a result of several cell types is shown with all its pairs, strongest evidence "
                "first: leave out --target and --sort"
            )
        return fitted.pairs(q=q, n=n).set_index("cell_type")
    return selected(fitted.dataset, target, q, n, sort_by)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--condition",
    required=True,
    metavar="COL",
    help="Column of obs with groups of samples, or a number.",
)
@click.option("--formula", metavar="FORMULA", help="Covariates to adjust for, e.g. '~ sex + age'.")
@block_option
@genes_option
@modalities_option
@click.option(
    "--contrast", metavar="LEVEL,BASELINE", help="Two groups to compare, if there are more."
)
@table_options
def variability(
    data: Path,
    data_options: dict[str, Any],
    condition: str,
    genes: str | None,
    modalities: str | None,
    contrast: str | None,
    output: Path,
    overwrite: bool,
    rows: int,
    **options: Any,
) -> None:
    """Test each gene of DATA for a difference of its variability between groups of samples."""
    from hiercorr import differential_variability
    from hiercorr.results.table_files import check_table_path, write_table

    check_table_path(output, overwrite)
    require_sample(data_options)
    levels = None if contrast is None else [part.strip() for part in contrast.split(",")]
    of_model = {
        **data_options,
        "condition": condition,
        "contrast": None if levels is None else (condition, *levels),
        "genes": genes_of(genes),
        "modalities": modalities_of(modalities),
        **options,
    }
    table = differential_variability(data, **given(of_model))
    click.echo(table_text(table.head(rows)))
    click.echo(f"\nSaved: {write_table(table, output)} ({len(table):,} rows)")
