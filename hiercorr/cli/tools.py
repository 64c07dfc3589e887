"""Commands around a result: demo, check, power, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hiercorr.cli.group import main
from hiercorr.cli.options import data_options, required, subset_of
from hiercorr.errors import InputError

if TYPE_CHECKING:
    pass


@main.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("hiercorr-demo.html"),
    show_default=True,
)
def demo(output: Path) -> None:
    """Run the main job on real data that come with hiercorr: partners of FTL in glioblastoma."""
    import hiercorr as hc
    from hiercorr import plotting
    from hiercorr.enrichment import enrich, gsea

    adata = hc.datasets.glioblastoma()
    click.echo("Glioblastoma, vehicle-treated slices of 5 patients (Zhao et al. 2021), 300 genes\n")
    options: dict[str, Any] = {
        "sample": "sample_id",
        "depth": "total_counts",
        "subset": {"condition": "ctrl"},
    }
    design = hc.check_design(adata, **options, main_claim=True, review=True)
    click.echo(f"{design}\n")
    found = hc.traps(adata, target="FTL", **options)
    click.echo(f"{found}\n")
    within = hc.CSCore(adata, **options).fit(target="FTL", per_sample=True)
    click.echo(str(within.summary(n=15)))
    between = hc.Pseudobulk(adata, **options).fit(target="FTL")
    cells = hc.CellCorrelation(adata, **options).fit(target="FTL")
    table = hc.evidence("FTL", within=within, between=between, exploratory=cells)
    click.echo(f"\n{table}")
    calls = int((within.dataset["q_value"].values < 0.05).sum())
    naive = hc.CSCore(adata, **options).fit(estimator="pooled", uncertainty="none", target="FTL")
    called = int((naive.dataset["cell_p_value"].values * len(adata.var_names) < 0.05).sum())
    click.echo(
        f"\nPartners of FTL: {calls} at q < 0.05 with the 5 patients as units; "
        f"{called} by the published test (Bonferroni), which takes 2,500 cells as independent."
    )
    sets = {
        "Over-representation among positive partners": enrich(within, direction="positive"),
        "Pre-ranked enrichment": gsea(within),
    }
    pair = plotting.pair_scatter(adata, gene_a="FTL", gene_b="FTH1", **options)
    written = hc.report(
        output,
        within,
        between,
        cells,
        design=design,
        traps=found,
        evidence=table,
        enrichment=sets,
        figures={"FTL and FTH1: cells, and over them the samples": pair},
        title="Partners of FTL in glioblastoma",
    )
    click.echo(f"Report: {written}")


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--types", metavar="COL", help="Column of obs with cell types: also count the cells of each."
)
@click.option(
    "--formula", metavar="FORMULA", help="Covariates of samples to check, e.g. '~ condition + sex'."
)
def check(
    data: Path,
    sample: str | None,
    cell_type: Sequence[str],
    layer: str | None,
    depth: str | None,
    min_cells: int | None,
    types: str | None,
    formula: str | None,
) -> None:
    """Look at samples, cells and depth of DATA (.h5ad, .zarr, 10x .h5) before anything is estimated."""
    from hiercorr.counts.counts import MIN_CELLS
    from hiercorr.planning.check import check_design

    found = check_design(
        data,
        required(sample),
        types,
        formula,
        layer=layer,
        depth=depth,
        subset=subset_of(cell_type),
        min_cells=MIN_CELLS if min_cells is None else min_cells,
    )
    click.echo(f"{found}\n")
    click.echo(found.samples.to_string(float_format=lambda v: f"{v:,.0f}"))
    if found.groups is not None:
        click.echo(f"\n{found.groups.to_string()}")


@main.command()
@click.argument("question", metavar="[within|between|differential|MODEL]", default="within")
@click.option("--samples", type=float, help="Samples, both groups together.")
@click.option("--cells", type=float, help="Cells per sample.")
@click.option("--mean", type=float, help="Mean count of both genes in a cell.")
@click.option("--rho", type=float, help="Correlation, or difference of two.")
@click.option(
    "--heterogeneity", type=float, help="Its standard deviation over samples.  [default: 0.1]"
)
@click.option(
    "--power",
    "wanted",
    type=float,
    help="Wanted power: what of samples, cells, mean and rho is left out is found.",
)
@click.option("--alpha", type=float, help="[default: 0.05]")
@click.option("--tests", type=int, help="Pairs that are tested (Bonferroni).  [default: 1]")
@click.option(
    "--baseline", type=float, help="differential: correlation in the first group.  [default: 0]"
)
@click.option(
    "--paired", is_flag=True, default=None, help="differential: both conditions in each donor."
)
@click.option(
    "--pilot",
    type=click.Path(path_type=Path),
    help="Counts that mean, rho and spread of --pair are taken from.",
)
@click.option("--pair", metavar="GENE,GENE", help="Of the pilot.")
@click.option(
    "--sample",
    metavar="COL",
    help="Of the pilot: column of obs that names the sample of each cell.",
)
@click.option(
    "--depth", metavar="COL", help="Of the pilot: column of obs with the depth; default row sums."
)
@click.option(
    "--donor-cost", type=float, help="Of one more sample: with --cell-cost, the cheapest designs."
)
@click.option("--cell-cost", type=float, help="Of one cell.")
@click.option("--budget", type=float, help="What may be spent: the most powerful designs.")
@click.option("--curve", metavar="samples|cells", help="Power over this quantity, as a table.")
@click.option("--figure", type=click.Path(path_type=Path), help="The curve as an image.")
def power(
    question: str,
    wanted: float | None,
    pilot: Path | None,
    pair: str | None,
    sample: str | None,
    depth: str | None,
    donor_cost: float | None,
    cell_cost: float | None,
    budget: float | None,
    curve: str | None,
    figure: Path | None,
    **options: Any,
) -> None:
    """Power of a design, or what it takes to reach one; QUESTION or a specification such as models/power.toml."""
    from hiercorr import planning, plotting
    from hiercorr.plotting.style import pyplot
    from hiercorr.specification import read_specification

    given: dict[str, Any] = {
        **dict.fromkeys(("samples", "cells", "mean", "rho", "power")),
        "heterogeneity": 0.1,
    }
    if question not in ("within", "between", "differential"):
        stated = read_specification(question)
        if stated.model != "power":
            raise InputError(f"{question!r} states a {stated.model} model, not a question of power")
        given |= stated.fit
        question = given.pop("question", "within")
    if pilot is not None:
        genes = [g.strip() for g in (pair or "").split(",") if g.strip()]
        if len(genes) != 2:
            raise InputError(
                "--pilot needs --pair GENE,GENE: the two genes that the numbers are taken from"
            )
        given |= planning.pilot(pilot, required(sample), *genes, depth=depth)
        if wanted is not None:
            given |= {"samples": None}
    given |= {k: v for k, v in options.items() if v is not None} | (
        {} if wanted is None else {"power": wanted}
    )
    design = planning.power(question, **given)
    click.echo(str(design))
    if (donor_cost is None) != (cell_cost is None):
        raise InputError("--donor-cost and --cell-cost go together")
    if donor_cost is not None and cell_cost is not None:
        best = planning.best_design(
            design, donor_cost, cell_cost, goal=wanted or 0.8, budget=budget
        )
        click.echo(f"\n{best.head(10).to_string(index=False)}")
    if curve is not None or figure is not None:
        over = curve or "samples"
        table = planning.power_curve(design, over, planning.around(design, over))
        click.echo(f"\n{table.to_string(float_format=lambda v: f'{v:.3g}')}")
        if figure is not None:
            fig, ax = pyplot().subplots(figsize=(5.5, 4), layout="constrained")
            plotting.power_curve(table, goal=wanted, ax=ax)
            fig.savefig(figure, dpi=150)
            click.echo(f"Figure: {figure}")


@main.command()
@click.argument(
    "results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULT..."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
)
@click.option("--gene", help="Show the partners of this gene.")
@click.option("--rows", default=500, show_default=True, help="Rows of a table at most.")
@click.option("--title")
@click.option(
    "--language",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Of headings and columns.",
)
def report(
    results: Sequence[Path],
    output: Path,
    gene: str | None,
    rows: int,
    title: str | None,
    language: str,
) -> None:
    """Write saved RESULTs as one HTML file; of one within and one between samples, with the evidence at both levels."""
    from hiercorr import evidence, load
    from hiercorr import report as write

    loaded = [load(r) for r in results]
    levels: dict[str, Any] = {}
    for result in loaded:
        if not result.dataset.attrs.get("exploratory"):
            levels.setdefault(str(result.dataset.attrs.get("level")), result)
    both = None
    target = gene or next((r.target for r in loaded if r.target), None)
    if target is not None and {"within", "between"} <= set(levels):
        both = evidence(target, within=levels["within"], between=levels["between"])
    click.echo(
        f"Report: {write(output, *loaded, evidence=both, gene=gene, n=rows, title=title, language=language)}"
    )
