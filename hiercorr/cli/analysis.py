"""Command of a whole analysis: analyze."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hiercorr.cli.group import main
from hiercorr.cli.options import (
    block_option,
    cell_covariates_option,
    depth_of,
    depth_option,
    gene_names_option,
    genes_of,
    genes_option,
    given,
    layer_option,
    min_cells_option,
    modalities_of,
    modalities_option,
    subset_of,
)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the analysis, new or empty; an interrupted analysis goes on.",
)
@click.option("--sample", metavar="COL", help="Column of obs with the donor or sample of cells.")
@click.option("--target", metavar="GENE", multiple=True, help="Target gene; repeatable.")
@click.option(
    "--cell-type",
    metavar="COL=VALUE",
    multiple=True,
    help="Cell type to analyse; repeatable: each by itself.  [default: all cells together]",
)
@click.option(
    "--subset",
    metavar="COL=VALUE",
    multiple=True,
    help="Use only these cells; repeatable: values of one column add up, columns restrict.",
)
@click.option(
    "--condition",
    metavar="COL",
    multiple=True,
    help="Column of obs whose groups are compared; repeatable.",
)
@block_option
@click.option("--formula", metavar="FORMULA", help="Covariates of samples, e.g. '~ sex + age'.")
@cell_covariates_option
@genes_option
@layer_option
@depth_option
@gene_names_option
@modalities_option
@min_cells_option
@click.option(
    "--sets",
    metavar="FILE",
    help="Gene sets: a GMT file, 'hallmark' or 'none'.  [default: hallmark]",
)
@click.option("--q", type=float, help="Threshold of q-values.  [default: 0.05]")
@click.option("--seed", type=int, help="Seed of permutations.  [default: 0]")
@click.option("--title", help="Title of the report.")
@click.option("--overwrite", is_flag=True, help="Replace the folder of another analysis.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def analyze(
    data: Path,
    output: Path,
    cell_type: Sequence[str],
    subset: Sequence[str],
    depth: Sequence[str],
    modalities: str | None,
    genes: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Analyse the partners of a gene in DATA, from the design to the report.

    DATA is .h5ad, .h5mu, .zarr, 10x .h5 or a 10x folder, or the analysis.toml of an earlier
    analysis, which is repeated; options given here take precedence over it.
    """
    from hiercorr.analysis.run import analyze as run

    chosen = given(
        {
            **{k: v for k, v in options.items() if v != ()},
            "cell_type": subset_of(cell_type, "--cell-type"),
            "subset": subset_of(subset),
            "depth": depth_of(depth),
            "modalities": modalities_of(modalities),
            "genes": genes_of(genes),
        }
    )
    click.echo(str(run(data, output, progress=not quiet, **chosen)))
