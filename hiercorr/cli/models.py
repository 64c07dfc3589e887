"""Commands that estimate and save a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hiercorr.cli.group import main
from hiercorr.cli.options import data_options, finish, genes_of, output_options, required, subset_of
from hiercorr.errors import InputError

if TYPE_CHECKING:
    from hiercorr.specification import Specification


@main.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] DATA")
@data_options
@click.option(
    "--model",
    type=click.Choice(["within", "pooled", "pseudobulk", "bayesian"]),
    help="Level of the correlation.  [default: within]",
)
@click.option("--target", metavar="GENE", help="Estimate this gene against all others only.")
@click.option(
    "--genes", metavar="N", help="The N most highly expressed genes, or names separated by commas."
)
@click.option(
    "--covariates",
    metavar="FORMULA",
    help="within, pooled: covariates of cells, e.g. '~ percent_mito + phase'.",
)
@click.option(
    "--uncertainty",
    type=click.Choice(["jackknife", "cluster", "bootstrap", "none"]),
    help="within, pooled.",
)
@click.option(
    "--per-sample", is_flag=True, default=None, help="within: also every sample's estimate."
)
@click.option(
    "--formula",
    metavar="FORMULA",
    help="pseudobulk, bayesian: covariates of samples, e.g. '~ condition + sex'.",
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
@click.option(
    "--permutations",
    type=int,
    help="pseudobulk: p-values by so many permutations, or all there are.",
)
@click.option("--draws", type=int, help="bayesian: posterior draws of each chain.  [default: 1000]")
@click.option("--chains", type=int, help="bayesian: chains.  [default: 4]")
@click.option("--priors", type=click.Path(), help="bayesian: a TOML file with a table [priors].")
@click.option("--seed", type=int, help="For the bootstrap, permutations and posterior draws.")
@output_options
def fit(
    arguments: Sequence[str],
    cell_type: Sequence[str],
    model: str | None,
    genes: str | None,
    output: Path,
    overwrite: bool,
    rows: int,
    quiet: bool,
    **options: Any,
) -> None:
    """Estimate correlations in DATA and save them.

    MODEL is a specification: a TOML file such as models/within.toml, or the name of a shipped one. Options given here
    take precedence over it.
    """
    from hiercorr import BayesianCorrelation, CSCore, Pseudobulk, differential
    from hiercorr.results.storage import check_target
    from hiercorr.specification import read_specification

    if len(arguments) > 2:
        raise InputError(f"fit takes DATA, or MODEL and DATA; {len(arguments)} arguments given")
    check_target(output, overwrite)
    stated = read_specification(arguments[0]) if len(arguments) == 2 else None
    if stated is not None and stated.model == "power":
        raise InputError(
            f"{arguments[0]!r} states a question of power, which needs no data: hiercorr power {arguments[0]}"
        )
    named = {None: None, "pseudobulk": "Pseudobulk", "bayesian": "BayesianCorrelation"}.get(
        model, "CSCore"
    )
    kind = named or (stated.model if stated else "CSCore")
    if stated is not None and stated.model != kind:
        raise InputError(
            f"--model {model} does not go with {arguments[0]!r}, which states a {stated.model} model"
        )
    given = {**options, "subset": subset_of(cell_type), "genes": genes_of(genes)}
    given["estimator"] = model if kind == "CSCore" else None
    data_options, fit_options = _split(
        kind, {k: v for k, v in given.items() if v is not None}, stated
    )
    if "sample" not in data_options:
        if fit_options.get("estimator") != "pooled":
            required(None)
        data_options["sample"] = None
    if kind == "differential":
        result = differential(
            arguments[-1], progress=False if quiet else None, **data_options, **fit_options
        )
        finish(result, output, overwrite, rows, quiet)
        return
    if kind in ("by_cell_type", "signature"):
        _run_stated(kind, arguments[-1], data_options, fit_options, output, overwrite, rows, quiet)
        return
    kinds: dict[str, Any] = {
        "CSCore": CSCore,
        "Pseudobulk": Pseudobulk,
        "BayesianCorrelation": BayesianCorrelation,
    }
    target = fit_options.pop("target", None) if kind == "BayesianCorrelation" else None
    estimator = kinds[kind](arguments[-1], **data_options)
    if target is not None:
        kept = {k: v for k, v in fit_options.items() if k in ("draws", "confidence", "seed")}
        result = estimator.fit_many(target, progress=False if quiet else None, **kept)
    else:
        result = estimator.fit(progress=False if quiet else None, **fit_options)
    finish(result, output, overwrite, rows, quiet)


def _split(
    kind: str, given: dict[str, Any], stated: Specification | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the model and of its fit: those stated, and over them those given."""
    from hiercorr.specification import KEYS

    data_keys, fit_keys = KEYS[kind]
    for name in given:
        if name not in data_keys | fit_keys:
            others = [k for k, (d, f) in KEYS.items() if name in d | f]
            raise InputError(
                f"--{name.replace('_', '-')} does not go with this model; it is an option of {others[0]}"
            )
    data_options = (dict(stated.data) if stated else {}) | {
        k: v for k, v in given.items() if k in data_keys
    }
    fit_options = (dict(stated.fit) if stated else {}) | {
        k: v for k, v in given.items() if k in fit_keys
    }
    return data_options, fit_options


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--condition",
    required=True,
    metavar="COL",
    help="Column of obs with groups of samples, or a number.",
)
@click.option(
    "--formula", metavar="FORMULA", help="Covariates of samples to adjust for, e.g. '~ sex + age'."
)
@click.option(
    "--block", metavar="COL", help="Column of obs that names the donor of several samples."
)
@click.option("--target", metavar="GENE", help="Estimate this gene against all others only.")
@click.option(
    "--genes", metavar="N", help="The N most highly expressed genes, or names separated by commas."
)
@click.option("--contrast", metavar="LEVEL,BASELINE", help="Which two of several groups.")
@click.option(
    "--permutations", type=int, help="p-values by so many permutations, or all there are."
)
@click.option("--seed", type=int, help="For the permutations.")
@output_options
def differential(
    data: Path,
    sample: str | None,
    cell_type: Sequence[str],
    condition: str,
    genes: str | None,
    contrast: str | None,
    output: Path,
    overwrite: bool,
    rows: int,
    quiet: bool,
    **options: Any,
) -> None:
    """Differences of correlation within samples between groups of samples of DATA."""
    from hiercorr import differential as run
    from hiercorr.results.storage import check_target

    check_target(output, overwrite)
    levels = (
        None if contrast is None else (condition, *(part.strip() for part in contrast.split(",")))
    )
    given = {k: v for k, v in options.items() if v is not None}
    result = run(
        data,
        required(sample),
        condition,
        contrast=levels,
        genes=genes_of(genes),
        subset=subset_of(cell_type),
        progress=False if quiet else None,
        **given,
    )
    finish(result, output, overwrite, rows, quiet)


@main.command("cell-types")
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--types", "column", required=True, metavar="COL", help="Column of obs with the cell types."
)
@click.option("--target", metavar="GENE", help="Estimate this gene against all others only.")
@click.option(
    "--genes", metavar="N", help="The N most highly expressed genes, or names separated by commas."
)
@click.option(
    "--covariates", metavar="FORMULA", help="Covariates of cells, e.g. '~ percent_mito + phase'."
)
@click.option("--uncertainty", type=click.Choice(["jackknife", "cluster", "bootstrap", "none"]))
@click.option(
    "--family",
    type=click.Choice(["all", "type"]),
    default="all",
    show_default=True,
    help="Of q-values.",
)
@output_options
def cell_types(
    data: Path,
    sample: str | None,
    column: str,
    cell_type: Sequence[str],
    genes: str | None,
    family: str,
    output: Path,
    overwrite: bool,
    rows: int,
    quiet: bool,
    **options: Any,
) -> None:
    """Correlations within samples in every cell type of DATA, as one result with a dimension cell_type."""
    given = {k: v for k, v in options.items() if v is not None}
    fit_options: dict[str, Any] = {"family": family}
    fit_options |= {k: given.pop(k) for k in ("target", "uncertainty") if k in given}
    stated = {
        "sample": required(sample),
        "cell_type": column,
        "genes": genes_of(genes),
        "subset": subset_of(cell_type),
        **given,
    }
    _run_stated("by_cell_type", data, stated, fit_options, output, overwrite, rows, quiet)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--members",
    required=True,
    metavar="GENES",
    help="Genes of the group, separated by commas, or a file with one a line.",
)
@click.option("--name", default="signature", show_default=True)
@click.option(
    "--weights", type=click.Choice(["equal", "expression"]), default="equal", show_default=True
)
@click.option(
    "--genes", metavar="N", help="The N most highly expressed genes, or names separated by commas."
)
@click.option(
    "--covariates", metavar="FORMULA", help="Covariates of cells, e.g. '~ percent_mito + phase'."
)
@click.option("--uncertainty", type=click.Choice(["jackknife", "cluster", "none"]))
@output_options
def signature(
    data: Path,
    sample: str | None,
    cell_type: Sequence[str],
    members: str,
    name: str,
    weights: str,
    genes: str | None,
    output: Path,
    overwrite: bool,
    rows: int,
    quiet: bool,
    **options: Any,
) -> None:
    """Correlation within samples of a group of genes, as one target, with every gene of DATA."""
    given = {k: v for k, v in options.items() if v is not None}
    group = Path(members).read_text().split() if Path(members).is_file() else genes_of(members)
    fit_options = {"members": group, "name": name, "weights": weights}
    fit_options |= {"uncertainty": given.pop("uncertainty")} if "uncertainty" in given else {}
    stated = {
        "sample": required(sample),
        "genes": genes_of(genes),
        "subset": subset_of(cell_type),
        **given,
    }
    _run_stated("signature", data, stated, fit_options, output, overwrite, rows, quiet)


def _run_stated(
    kind: str,
    data: Any,
    data_options: dict[str, Any],
    fit_options: dict[str, Any],
    output: Path,
    overwrite: bool,
    rows: int,
    quiet: bool,
) -> None:
    from hiercorr import CSCore, by_cell_type
    from hiercorr.results.storage import check_target

    check_target(output, overwrite)
    given = {k: v for k, v in data_options.items() if v is not None}
    if kind == "signature":
        members = fit_options.pop("members", None)
        if not members:
            raise InputError("a signature needs members = [genes] in [fit]")
        result = CSCore(data, **given).signature(
            members, progress=False if quiet else None, **fit_options
        )
        finish(result, output, overwrite, rows, quiet)
        return
    if "cell_type" not in given:
        raise InputError("cell_type is needed: the column of obs with the cell types")
    column, sample = given.pop("cell_type"), given.pop("sample")
    family, types = fit_options.pop("family", "all"), given.pop("types", None)
    found = by_cell_type(data, column, sample, types, family=family, fit=fit_options, **given)
    found.save(output, overwrite=overwrite)
    if not quiet:
        gene = fit_options.get("target")
        click.echo(f"{found}\n")
        click.echo(
            (found.top(gene, rows) if gene else found.pairs(rows)).to_string(
                float_format=lambda v: f"{v:.3g}"
            )
        )
        click.echo(f"\nSaved: {output}")
