"""Commands for modules of genes as units, and for direct partners."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hiercorr.cli.group import main
from hiercorr.cli.models import contrast_of, run_model
from hiercorr.cli.options import (
    Output,
    block_method_option,
    block_option,
    cell_covariates_option,
    data_options,
    depth_adjust_option,
    genes_of,
    genes_option,
    given,
    module_weights_option,
    output_options,
    permutations_option,
    require_sample,
    sets_option,
    table_options,
    table_text,
)
from hiercorr.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from hiercorr import CSCore
    from hiercorr.results import CorrelationResult

_jackknife = click.option(
    "--uncertainty",
    type=click.Choice(["hierarchical", "jackknife", "cluster", "none"]),
    help="Method for standard errors.  [default: jackknife, or hierarchical for --membership]",
)
_condition = click.option(
    "--condition",
    required=True,
    metavar="COL",
    help="Column of obs with groups of samples, or a number; or a curve, e.g. 'bs(age, df=3)'.",
)
_contrast = click.option(
    "--contrast",
    metavar="TEXT",
    help="LEVEL,BASELINE: two groups to compare; pairwise, overall, trend; or a sum of "
    "coefficients.",
)
_formula = click.option(
    "--formula", metavar="FORMULA", help="Covariates of samples to adjust for, e.g. '~ sex + age'."
)


@main.command("find-modules")
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--method",
    type=click.Choice(["leiden", "hierarchical"]),
    help="Leiden communities or average linkage.  [default: leiden]",
)
@click.option("--q", type=float, help="Maximum q-value of a pair; 1: any.  [default: 0.05]")
@click.option("--min-correlation", type=float, help="Minimum absolute correlation.  [default: 0]")
@click.option("--resolution", type=float, help="leiden: higher values give more modules.")
@click.option("--n-modules", type=int, help="hierarchical: number of modules.")
@click.option("--min-size", type=int, help="Minimum number of genes.  [default: 3]")
@click.option(
    "--folds",
    type=int,
    help="Also find modules without each of so many groups of donors, and test them in these.",
)
@click.option("--seed", type=int, help="Seed of leiden and of the folds.  [default: 0]")
@genes_option
@cell_covariates_option
@block_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Name of the modules, ending in .gmt.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing modules.")
def find_modules(
    data: Path,
    data_options: dict[str, Any],
    genes: str | None,
    covariates: str | None,
    block: str | None,
    folds: int | None,
    output: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Find modules of genes in DATA and write them as a GMT file, for the commands with --sets."""
    from hiercorr import CSCore
    from hiercorr import modules as of_modules
    from hiercorr.runtime.files import check_free, write_text

    if output.suffix.lower() != ".gmt":
        raise InputError(f"--output {str(output)!r} must end in .gmt")
    check_free(output, overwrite)
    require_sample(data_options)
    model = {
        **data_options,
        **given({"genes": genes_of(genes), "covariates": covariates, "block": block}),
    }
    find = given(options)
    fitted = CSCore(data, **model)
    found = of_modules.find_modules(fitted.fit(), **find)
    sets = found.to_dict()
    if not sets:
        raise InputError("no module has enough genes: lower --min-correlation or --min-size")
    table = found.table.set_axis(list(sets))
    if folds is not None:
        samples, donors = _donors_of(fitted)
        table = of_modules.left_out_preservation(
            _fit_of(data, model), samples, donors=donors, folds=folds, **find
        )
    click.echo(table_text(table))
    lines = ["\t".join([name, f"{len(of)} genes", *of]) for name, of in sets.items()]
    click.echo(f"\nSaved: {write_text(output, chr(10).join([*lines, '']))} ({len(sets):,} modules)")


def _fit_of(data: Path, model: dict[str, Any]) -> Any:
    """Return a function that fits the cells of some samples."""
    from hiercorr import CSCore

    sample = model["sample"]
    if not isinstance(sample, str):
        raise InputError("--folds needs one column of samples, --sample COL")

    def fit(samples: list[str]) -> Any:
        subset = {**(model.get("subset") or {}), sample: samples}
        return CSCore(data, **{**model, "subset": subset}).fit()

    return fit


def _donors_of(model: CSCore) -> tuple[list[str], Any]:
    """Return the samples of a model, and their donors if a column names them."""
    from hiercorr.design.samples import sample_table

    counts = model.counts
    table = sample_table(counts.obs, counts.starts, counts.samples)[0]
    samples = [str(s) for s in counts.samples]
    if model.block is None:
        return samples, None
    return samples, dict(zip(samples, table[model.block].astype(str), strict=True))


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@sets_option
@click.option(
    "--membership",
    is_flag=True,
    default=None,
    help="Correlate the modules with every gene instead of with each other.",
)
@module_weights_option
@genes_option
@cell_covariates_option
@depth_adjust_option
@block_option
@_jackknife
@output_options
def modules(
    data: Path,
    data_options: dict[str, Any],
    output: Output,
    **options: Any,
) -> None:
    """Estimate the correlation of modules with each other within samples of DATA."""
    _run_within("modules", data, data_options, options, output)


@main.command("module-differences")
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@sets_option
@_condition
@_formula
@block_option
@_contrast
@module_weights_option
@genes_option
@output_options
def module_differences(
    data: Path,
    data_options: dict[str, Any],
    condition: str,
    genes: str | None,
    contrast: str | None,
    formula: str | None,
    block: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Test differences of the correlation of modules with each other between groups of DATA."""
    output.check()
    require_sample(data_options)
    of_model = {
        **data_options,
        "condition": condition,
        "contrast": None if contrast is None else contrast_of(condition, contrast),
        "formula": formula,
        "block": block,
        "genes": genes_of(genes),
    }
    run_model("differential_correlation", data, given(of_model), given(options), output)


@main.command("module-traits")
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@sets_option
@click.option(
    "--trait",
    "traits",
    metavar="COL",
    multiple=True,
    required=True,
    help="Column of obs with one value per sample, numbers or two levels; repeatable.",
)
@_formula
@click.option(
    "--method",
    type=click.Choice(["pearson", "spearman"]),
    help="Correlation over samples.  [default: pearson]",
)
@click.option(
    "--weights",
    type=click.Choice(["equal", "expression"]),
    help="Mean of log expression of the genes, or log of their sum.  [default: equal]",
)
@click.option(
    "--normalization",
    type=click.Choice(["tmm", "median_of_ratios", "cpm"]),
    help="Normalisation of library sizes.  [default: tmm]",
)
@block_option
@block_method_option
@permutations_option
@click.option("--seed", type=int, help="Seed of the permutations.")
@output_options
def module_traits(
    data: Path,
    data_options: dict[str, Any],
    traits: Sequence[str],
    formula: str | None,
    normalization: str | None,
    block: str | None,
    block_method: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Correlate the expression of modules with traits of the samples of DATA."""
    output.check()
    require_sample(data_options)
    of_model = {
        **data_options,
        "formula": formula,
        "normalization": normalization,
        "block": block,
        "block_method": block_method,
    }
    of_fit = {"traits": list(traits), **options}
    run_model("module_traits", data, given(of_model), given(of_fit), output)


@main.command("direct-partners")
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@genes_option
@cell_covariates_option
@depth_adjust_option
@block_option
@click.option(
    "--scale",
    type=click.Choice(["log", "natural"]),
    help="Scale of expression.  [default: log]",
)
@click.option(
    "--shrinkage",
    type=float,
    help="Weight of the identity.  [default: by the likelihood of left-out donors]",
)
@click.option(
    "--min-correlation",
    type=float,
    help="Minimum absolute partial correlation of an edge in a resample.  [default: 0.1]",
)
@click.option(
    "--resamples", "n_bootstrap", type=int, help="Number of resamples of donors.  [default: 200]"
)
@click.option("--seed", type=int, help="Seed of the resamples.")
@output_options
def direct_partners(
    data: Path,
    data_options: dict[str, Any],
    output: Output,
    **options: Any,
) -> None:
    """Estimate partial correlations of genes within samples of DATA, given all other genes."""
    _run_within("direct_partners", data, data_options, options, output)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@sets_option
@_condition
@_formula
@block_option
@_contrast
@click.option(
    "--centrality",
    is_flag=True,
    help="Compare the centrality of each gene in its module, instead of the modules' connectivity.",
)
@click.option(
    "--moderated",
    is_flag=True,
    default=None,
    help="Moderate residual variances over modules or genes, as in limma.",
)
@genes_option
@cell_covariates_option
@table_options
def connectivity(
    data: Path,
    data_options: dict[str, Any],
    sets: str,
    condition: str,
    contrast: str | None,
    centrality: bool,
    genes: str | None,
    covariates: str | None,
    output: Path,
    overwrite: bool,
    rows: int,
    **options: Any,
) -> None:
    """Compare the connectivity of modules between groups of donors of DATA."""
    from hiercorr import modules as of_modules
    from hiercorr.counts.gene_groups import named_sets
    from hiercorr.design.formulas import random_blocks
    from hiercorr.design.samples import sample_table
    from hiercorr.results.table_files import check_table_path

    check_table_path(output, overwrite)
    require_sample(data_options)
    named_sets(sets)  # errors before the fit
    donors = random_blocks(options["formula"], options["block"])[1] or [options["block"]]
    with warnings.catch_warnings():  # compare_donors() warns of samples of one donor
        warnings.filterwarnings("ignore", r"\d+ samples of .* come from \d+ values of ")
        model, result = _per_sample(data, data_options, genes, covariates, donors[0])
    counts = model.counts
    samples = sample_table(counts.obs, counts.starts, counts.samples)[0]
    if centrality:
        values = of_modules.centrality(result, sets)
    else:
        values = of_modules.connectivity(sets, result)
    if contrast is not None:
        options["contrast"] = contrast_of(condition, contrast)
    table = of_modules.compare_donors(values, samples, condition, **given(options))
    _write(table, output, rows)


def _run_within(
    name: str, data: Path, data_options: dict[str, Any], options: dict[str, Any], output: Output
) -> None:
    """Run a model of the correlations within samples; `options` are those of CSCore and its own."""
    output.check()
    require_sample(data_options)
    own = dict(options)
    of_model = {**data_options, "genes": genes_of(own.pop("genes"))}
    of_model |= {key: own.pop(key) for key in ("covariates", "depth_adjust", "block")}
    run_model(name, data, given(of_model), given(own), output)


def _per_sample(
    data: Path,
    data_options: dict[str, Any],
    genes: str | None,
    covariates: str | None,
    block: str | None,
) -> tuple[CSCore, CorrelationResult]:
    """Fit every sample."""
    from hiercorr import CSCore

    options = {"covariates": covariates, "block": block, **data_options}
    model = CSCore(data, genes=genes_of(genes), **options)
    return model, model.fit(per_sample=True, uncertainty="none")


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@sets_option
@genes_option
@cell_covariates_option
@block_option
@click.option("--permutations", type=int, help="Number of random sets.  [default: 1000]")
@click.option("--seed", type=int, help="Seed of the random sets.  [default: 0]")
@table_options
def preservation(
    data: Path,
    data_options: dict[str, Any],
    sets: str,
    genes: str | None,
    covariates: str | None,
    block: str | None,
    output: Path,
    overwrite: bool,
    rows: int,
    **options: Any,
) -> None:
    """Test whether modules that were found in other data are connected in DATA."""
    from hiercorr import modules as of_modules
    from hiercorr.counts.gene_groups import named_sets
    from hiercorr.results.table_files import check_table_path

    check_table_path(output, overwrite)
    require_sample(data_options)
    named_sets(sets)
    model, result = _per_sample(data, data_options, genes, covariates, block)
    _, donors = _donors_of(model)
    table = of_modules.preservation(sets, result, donors=donors, **given(options))
    _write(table, output, rows)


def _write(table: pd.DataFrame, output: Path, rows: int) -> None:
    """Print the first rows of a table, and write it."""
    from hiercorr.results.table_files import write_table

    shown = table.sort_values("p_value", kind="stable")
    click.echo(table_text(shown.head(rows)))
    click.echo(f"\nSaved: {write_table(shown, output)} ({len(table):,} rows)")
