"""Command line: ``hiercorr demo | check | fit | differential | power | report``, the same names as the functions."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hiercorr._version import __version__
from hiercorr.errors import InputError

if TYPE_CHECKING:
    from hiercorr.specification import Specification


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


def _data_options(command: Any) -> Any:
    for option in reversed(
        [
            click.option("--sample", metavar="COL", help="Column of obs that names the sample of each cell."),
            click.option(
                "--cell-type", metavar="COL=VALUE", multiple=True, help="Use only these cells; may be repeated."
            ),
            click.option("--layer", help="Layer with raw counts, or 'raw'; default X."),
            click.option("--depth", metavar="COL", help="Column of obs with the depth; default row sums."),
            click.option("--min-cells", type=int, help="Leave out samples with fewer cells.  [default: 10]"),
        ]
    ):
        command = option(command)
    return command


def _subset(cell_type: Sequence[str]) -> dict[str, str] | None:
    out = {}
    for text in cell_type:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise InputError(f"--cell-type {text!r} must be COLUMN=VALUE, e.g. cell_type='B cells'")
        out[column] = value
    return out or None


@main.command()
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("hiercorr-demo.html"), show_default=True)
def demo(output: Path) -> None:
    """Run the main job on real data that come with hiercorr: partners of FTL in glioblastoma."""
    import hiercorr as hc
    from hiercorr import plotting
    from hiercorr.enrichment import enrich, gsea

    adata = hc.datasets.glioblastoma()
    click.echo("Glioblastoma, vehicle-treated slices of 5 patients (Zhao et al. 2021), 300 genes\n")
    options: dict[str, Any] = {"sample": "sample_id", "depth": "total_counts", "subset": {"condition": "ctrl"}}
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
        output, within, between, cells, design=design, traps=found, evidence=table, enrichment=sets,
        figures={"FTL and FTH1: cells, and over them the samples": pair}, title="Partners of FTL in glioblastoma",
    )  # fmt: skip
    click.echo(f"Report: {written}")


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@_data_options
@click.option("--types", metavar="COL", help="Column of obs with cell types: also count the cells of each.")
@click.option("--formula", metavar="FORMULA", help="Covariates of samples to check, e.g. '~ condition + sex'.")
def check(data: Path, sample: str | None, cell_type: Sequence[str], layer: str | None, depth: str | None,
          min_cells: int | None, types: str | None, formula: str | None) -> None:  # fmt: skip
    """Look at samples, cells and depth of DATA (.h5ad, .zarr, 10x .h5) before anything is estimated."""
    from hiercorr.check import check_design
    from hiercorr.data import MIN_CELLS

    if sample is None:
        raise InputError("--sample is needed: the column of obs that names the sample of each cell")
    found = check_design(
        data, sample, types, formula, layer=layer, depth=depth, subset=_subset(cell_type),
        min_cells=MIN_CELLS if min_cells is None else min_cells,
    )  # fmt: skip
    click.echo(f"{found}\n")
    click.echo(found.samples.to_string(float_format=lambda v: f"{v:,.0f}"))
    if found.groups is not None:
        click.echo(f"\n{found.groups.to_string()}")


@main.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] DATA")
@_data_options
@click.option(
    "--model",
    type=click.Choice(["within", "pooled", "pseudobulk", "bayesian"]),
    help="Level of the correlation.  [default: within]",
)
@click.option("--target", metavar="GENE", help="Estimate this gene against all others only.")
@click.option("--genes", metavar="N", help="The N most highly expressed genes, or names separated by commas.")
@click.option(
    "--covariates", metavar="FORMULA", help="within, pooled: covariates of cells, e.g. '~ percent_mito + phase'."
)
@click.option("--uncertainty", type=click.Choice(["jackknife", "cluster", "bootstrap", "none"]), help="within, pooled.")
@click.option("--per-sample", is_flag=True, default=None, help="within: also every sample's estimate.")
@click.option(
    "--formula", metavar="FORMULA", help="pseudobulk, bayesian: covariates of samples, e.g. '~ condition + sex'."
)
@click.option(
    "--method",
    help="pseudobulk: pearson, spearman, ols, hc3, voom, negative_binomial or corrected; bayesian: marginal or latent.",
)
@click.option("--normalization", help="pseudobulk: tmm, median_of_ratios or cpm.  [default: tmm]")
@click.option(
    "--block",
    metavar="COL",
    help="pseudobulk, bayesian: column of obs that names the donor of several samples.",
)
@click.option("--block-method", help="pseudobulk: fixed, correlation or cluster.  [default: fixed]")
@click.option("--permutations", type=int, help="pseudobulk: p-values by so many permutations, or all there are.")
@click.option("--draws", type=int, help="bayesian: posterior draws of each chain.  [default: 1000]")
@click.option("--chains", type=int, help="bayesian: chains.  [default: 4]")
@click.option("--priors", type=click.Path(), help="bayesian: a TOML file with a table [priors].")
@click.option("--seed", type=int, help="For the bootstrap, permutations and posterior draws.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Result: a .zarr or .nc name.")
@click.option("--overwrite", is_flag=True, help="Replace an existing result.")
@click.option("--rows", default=20, show_default=True, help="Rows of the table shown at the end.")
@click.option("--quiet", is_flag=True, help="No progress and no table.")
def fit(
    arguments: Sequence[str], cell_type: Sequence[str], model: str | None, genes: str | None, output: Path,
    overwrite: bool, rows: int, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Estimate correlations in DATA and save them.

    MODEL is a specification: a TOML file such as models/within.toml, or the name of a shipped one. Options given here
    take precedence over it.
    """
    from hiercorr import BayesianCorrelation, CSCore, Pseudobulk, differential
    from hiercorr._storage import check_target
    from hiercorr.specification import read_specification

    if len(arguments) > 2:
        raise InputError(f"fit takes DATA, or MODEL and DATA; {len(arguments)} arguments given")
    check_target(output, overwrite)
    stated = read_specification(arguments[0]) if len(arguments) == 2 else None
    named = {None: None, "pseudobulk": "Pseudobulk", "bayesian": "BayesianCorrelation"}.get(model, "CSCore")
    kind = named or (stated.model if stated else "CSCore")
    if stated is not None and stated.model != kind:
        raise InputError(f"--model {model} does not go with {arguments[0]!r}, which states a {stated.model} model")
    given = {**options, "subset": _subset(cell_type), "genes": _genes(genes)}
    given["estimator"] = model if kind == "CSCore" else None
    data_options, fit_options = _split(kind, {k: v for k, v in given.items() if v is not None}, stated)
    if "sample" not in data_options:
        if fit_options.get("estimator") != "pooled":
            raise InputError("--sample is needed: the column of obs that names the sample of each cell")
        data_options["sample"] = None
    if kind == "differential":
        result = differential(arguments[-1], progress=False if quiet else None, **data_options, **fit_options)
        _finish(result, output, overwrite, rows, quiet)
        return
    kinds: dict[str, Any] = {"CSCore": CSCore, "Pseudobulk": Pseudobulk, "BayesianCorrelation": BayesianCorrelation}
    target = fit_options.pop("target", None) if kind == "BayesianCorrelation" else None
    estimator = kinds[kind](arguments[-1], **data_options)
    if target is not None:
        kept = {k: v for k, v in fit_options.items() if k in ("draws", "confidence", "seed")}
        result = estimator.fit_many(target, progress=False if quiet else None, **kept)
    else:
        result = estimator.fit(progress=False if quiet else None, **fit_options)
    _finish(result, output, overwrite, rows, quiet)


def _finish(result: Any, output: Path, overwrite: bool, rows: int, quiet: bool) -> None:
    result.save(output, overwrite=overwrite)
    if not quiet:
        click.echo(str(result.summary(n=rows)))
        click.echo(f"\nSaved: {output}")


def _split(kind: str, given: dict[str, Any], stated: Specification | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the model and of its fit: those stated, and over them those given."""
    from hiercorr.specification import KEYS

    data_keys, fit_keys = KEYS[kind]
    for name in given:
        if name not in data_keys | fit_keys:
            others = [k for k, (d, f) in KEYS.items() if name in d | f]
            raise InputError(f"--{name.replace('_', '-')} does not go with this model; it is an option of {others[0]}")
    data_options = (dict(stated.data) if stated else {}) | {k: v for k, v in given.items() if k in data_keys}
    fit_options = (dict(stated.fit) if stated else {}) | {k: v for k, v in given.items() if k in fit_keys}
    return data_options, fit_options


def _genes(text: str | None) -> int | list[str] | None:
    if text is None:
        return None
    return int(text) if text.isdigit() else [g.strip() for g in text.split(",") if g.strip()]


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@_data_options
@click.option("--condition", required=True, metavar="COL", help="Column of obs with groups of samples, or a number.")
@click.option("--formula", metavar="FORMULA", help="Covariates of samples to adjust for, e.g. '~ sex + age'.")
@click.option("--block", metavar="COL", help="Column of obs that names the donor of several samples.")
@click.option("--target", metavar="GENE", help="Estimate this gene against all others only.")
@click.option("--genes", metavar="N", help="The N most highly expressed genes, or names separated by commas.")
@click.option("--contrast", metavar="LEVEL,BASELINE", help="Which two of several groups.")
@click.option("--permutations", type=int, help="p-values by so many permutations, or all there are.")
@click.option("--seed", type=int, help="For the permutations.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Result: a .zarr or .nc name.")
@click.option("--overwrite", is_flag=True, help="Replace an existing result.")
@click.option("--rows", default=20, show_default=True, help="Rows of the table shown at the end.")
@click.option("--quiet", is_flag=True, help="No progress and no table.")
def differential(
    data: Path, sample: str | None, cell_type: Sequence[str], condition: str, genes: str | None, contrast: str | None,
    output: Path, overwrite: bool, rows: int, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Differences of correlation within samples between groups of samples of DATA."""
    from hiercorr import differential as run
    from hiercorr._storage import check_target

    if sample is None:
        raise InputError("--sample is needed: the column of obs that names the sample of each cell")
    check_target(output, overwrite)
    levels = None if contrast is None else (condition, *(part.strip() for part in contrast.split(",")))
    given = {k: v for k, v in options.items() if v is not None}
    result = run(
        data, sample, condition, contrast=levels, genes=_genes(genes), subset=_subset(cell_type),
        progress=False if quiet else None, **given,
    )  # fmt: skip
    _finish(result, output, overwrite, rows, quiet)


@main.command()
@click.argument("question", type=click.Choice(["within", "between", "differential"]), default="within")
@click.option("--samples", type=float, help="Samples, both groups together.")
@click.option("--cells", type=float, help="Cells per sample.")
@click.option("--mean", type=float, help="Mean count of both genes in a cell.")
@click.option("--rho", type=float, help="Correlation, or difference of two.")
@click.option(
    "--heterogeneity", type=float, default=0.1, show_default=True, help="Its standard deviation over samples."
)
@click.option(
    "--power",
    "wanted",
    type=float,
    help="Wanted power: what of samples, cells, mean and rho is left out is found.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True)
@click.option("--tests", type=int, default=1, show_default=True, help="Pairs that are tested (Bonferroni).")
@click.option("--baseline", type=float, default=0.0, help="differential: correlation in the first group.")
@click.option("--paired", is_flag=True, help="differential: both conditions in each donor.")
def power(question: str, wanted: float | None, **options: Any) -> None:
    """Power of a design, or what it takes to reach one."""
    from hiercorr import power as run

    click.echo(str(run(question, power=wanted, **options)))


@main.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULT...")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@click.option("--gene", help="Show the partners of this gene.")
@click.option("--rows", default=500, show_default=True, help="Rows of a table at most.")
@click.option("--title")
def report(results: Sequence[Path], output: Path, gene: str | None, rows: int, title: str | None) -> None:
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
    click.echo(f"Report: {write(output, *loaded, evidence=both, gene=gene, n=rows, title=title)}")


if __name__ == "__main__":
    sys.exit(main())
