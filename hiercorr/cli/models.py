"""Commands that estimate and save a result."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hiercorr.cli.group import main
from hiercorr.cli.options import (
    Output,
    block_method_option,
    block_option,
    cell_covariates_option,
    data_options,
    depth_adjust_option,
    gene_list_of,
    genes_of,
    genes_option,
    given,
    members_of,
    modalities_of,
    modalities_option,
    moderated_of,
    moderated_option,
    module_weights_option,
    output_options,
    pairs_option,
    permutations_option,
    require_sample,
    target_option,
    uncertainty_option,
    weights_option,
)
from hiercorr.errors import InputError, one_of

if TYPE_CHECKING:
    from hiercorr.specification import Specification

_MODELS = {
    None: None,
    "within": "CSCore",
    "pooled": "CSCore",
    "pseudobulk": "Pseudobulk",
    "bayesian": "BayesianCorrelation",
}
_GRIDS = "grids"  # --method of BayesianCorrelation.fit_many
_FIT_MANY = {"draws", "confidence", "seed", "target", "method"}  # its options


@main.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] DATA")
@data_options
@click.option(
    "--model",
    type=click.Choice(["within", "pooled", "pseudobulk", "bayesian"]),
    help="Level of the correlation.  [default: within]",
)
@target_option
@pairs_option
@genes_option
@click.option(
    "--covariates",
    metavar="FORMULA",
    help="within, pooled, bayesian: covariates of cells, e.g. '~ percent_mito + phase'.",
)
@modalities_option
@depth_adjust_option
@uncertainty_option
@weights_option
@click.option(
    "--per-sample", is_flag=True, default=None, help="within: also estimate every sample."
)
@click.option(
    "--formula",
    metavar="FORMULA",
    help="pseudobulk, bayesian: covariates of samples, e.g. '~ condition + sex'.",
)
@click.option(
    "--method",
    help="pseudobulk: pearson, spearman, ols, hc3, voom, negative_binomial or corrected; "
    "bayesian: marginal, joint, latent, or grids (--target with any number of genes, each pair "
    "without a Markov chain).",
)
@click.option("--normalization", help="pseudobulk: tmm, median_of_ratios or cpm.  [default: tmm]")
@block_option
@click.option("--block-method", help="pseudobulk: fixed, correlation or cluster.  [default: fixed]")
@click.option(
    "--permutations",
    type=int,
    help="pseudobulk: number of permutations for p-values (all, if there are no more).",
)
@moderated_option
@click.option(
    "--correlation-formula",
    metavar="FORMULA",
    help="bayesian: covariates of the correlation within samples, e.g. '~ condition'.",
)
@click.option(
    "--sd-per-sample",
    is_flag=True,
    default=None,
    help="bayesian: let the standard deviation of log expression differ between samples.",
)
@click.option("--draws", type=int, help="bayesian: posterior draws per chain.  [default: 1000]")
@click.option("--chains", type=int, help="bayesian: number of chains.  [default: 4]")
@click.option("--priors", type=click.Path(), help="bayesian: TOML file with a table [priors].")
@click.option("--seed", type=int, help="Seed of bootstrap, permutations and posterior draws.")
@output_options
def fit(
    arguments: Sequence[str],
    data_options: dict[str, Any],
    model: str | None,
    genes: str | None,
    modalities: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Estimate correlations in DATA and save them.

    MODEL is a specification: a TOML file such as models/within.toml, or the name of a shipped one.
    Options given here take precedence over it.
    """
    from hiercorr.specification import read_specification

    if len(arguments) > 2:
        raise InputError(f"fit takes DATA, or MODEL and DATA; {len(arguments)} arguments given")
    output.check()
    stated = read_specification(arguments[0]) if len(arguments) == 2 else None
    kind = _kind(model, stated, arguments[0])
    options["moderated"] = moderated_of(options["moderated"])
    of_features = {"genes": genes_of(genes), "modalities": modalities_of(modalities)}
    chosen = given({**options, **data_options, **of_features})
    if kind == "CSCore" and model is not None:
        chosen["estimator"] = model
    of_model, of_fit = _split(kind, chosen, stated)
    if "sample" not in of_model:
        if of_fit.get("estimator") != "pooled":
            require_sample(of_model)
        of_model["sample"] = None
    if kind == "BayesianCorrelation" and of_fit.get("method") == _GRIDS:
        ignored = sorted(set(chosen) & set(of_fit) - _FIT_MANY)
        if ignored:
            raise InputError(
                f"--{ignored[0].replace('_', '-')} has no effect with --method grids, which fits "
                "each pair without a Markov chain: leave one of them out"
            )
    run_model(kind, arguments[-1], of_model, of_fit, output)


def _kind(model: str | None, stated: Specification | None, name: str) -> str:
    """Return the model of a command line and a specification."""
    if stated is not None and stated.model == "power":
        raise InputError(
            f"{name!r} is a question of power, which needs no data: hiercorr power {name}"
        )
    kind = _MODELS[model] or (stated.model if stated else "CSCore")
    if stated is not None and stated.model != kind:
        raise InputError(
            f"--model {model} cannot be combined with {name!r}, which specifies the model "
            f"{stated.model}"
        )
    return kind


def _split(
    kind: str, chosen: dict[str, Any], stated: Specification | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into those of the model and of its fit, and add those of a specification."""
    from hiercorr.specification import KEYS

    data_keys, fit_keys = KEYS[kind]
    for name in chosen:
        if name not in data_keys | fit_keys:
            others = [k for k, (d, f) in KEYS.items() if name in d | f]
            raise InputError(
                f"--{name.replace('_', '-')} does not apply to this model; it is an option of "
                f"{others[0]}"
            )
    of_model = (dict(stated.data) if stated else {}) | {
        k: v for k, v in chosen.items() if k in data_keys
    }
    of_fit = (dict(stated.fit) if stated else {}) | {
        k: v for k, v in chosen.items() if k in fit_keys
    }
    return of_model, of_fit


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--condition",
    required=True,
    metavar="COL",
    help="Column of obs with groups of samples, or a number; or a curve, e.g. 'bs(age, df=3)'.",
)
@click.option(
    "--formula", metavar="FORMULA", help="Covariates of samples to adjust for, e.g. '~ sex + age'."
)
@block_option
@target_option
@pairs_option
@genes_option
@modalities_option
@click.option(
    "--contrast",
    metavar="TEXT",
    help="LEVEL,BASELINE: two groups to compare; pairwise: all pairs of groups; overall; trend; or "
    "a sum of coefficients. Default: all groups together, or the trend of an ordered column.",
)
@click.option(
    "--method",
    type=click.Choice(["regression", "pooled"]),
    help="Regression of the samples' correlations, or two groups by their own sums.",
)
@click.option(
    "--uncertainty",
    type=click.Choice(["hierarchical", "HC2", "jackknife", "cluster"]),
    help="hierarchical or HC2 for the regression, jackknife or cluster for two groups.",
)
@permutations_option
@click.option("--seed", type=int, help="Seed of the permutations.")
@output_options
def differential(
    data: Path,
    data_options: dict[str, Any],
    condition: str,
    genes: str | None,
    modalities: str | None,
    contrast: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Test differences of the correlation within samples between groups of samples of DATA."""
    output.check()
    require_sample(data_options)
    of_model = {
        **data_options,
        "condition": condition,
        "contrast": None if contrast is None else contrast_of(condition, contrast),
        "genes": genes_of(genes),
        "modalities": modalities_of(modalities),
        **options,
    }
    run_model("differential", data, given(of_model), {}, output)


def contrast_of(condition: str, text: str) -> str | tuple[str, ...]:
    """Read two levels of the condition, or what is asked for in the names of coefficients."""
    levels = [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", text)]
    return (condition, *levels) if len(levels) == 2 else text


@main.command("cell-types")
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--types", "column", required=True, metavar="COL", help="Column of obs with the cell types."
)
@target_option
@pairs_option
@genes_option
@cell_covariates_option
@modalities_option
@depth_adjust_option
@block_option
@uncertainty_option
@weights_option
@click.option(
    "--family",
    type=click.Choice(["all", "type"]),
    default="all",
    show_default=True,
    help="q-values over all cell types or over each type.",
)
@output_options
def cell_types(
    data: Path,
    data_options: dict[str, Any],
    column: str,
    genes: str | None,
    covariates: str | None,
    modalities: str | None,
    depth_adjust: bool | None,
    block: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Estimate correlations within samples in every cell type of DATA.

    The result has a dimension cell_type.
    """
    output.check()
    require_sample(data_options)
    of_model = {
        **data_options,
        "cell_type": column,
        "genes": genes_of(genes),
        "covariates": covariates,
        "modalities": modalities_of(modalities),
        "depth_adjust": depth_adjust,
        "block": block,
    }
    run_model("by_cell_type", data, given(of_model), given(options), output)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--types", "column", required=True, metavar="COL", help="Column of obs with the cell types."
)
@click.option("--type-a", required=True, metavar="TYPE", help="First cell type.")
@click.option("--type-b", required=True, metavar="TYPE", help="Second cell type.")
@click.option(
    "--genes-a",
    metavar="GENES",
    help="Genes of the first type: the N most highly expressed, names separated by commas, or a "
    "file with one per line.  [default: all expressed]",
)
@click.option("--genes-b", metavar="GENES", help="Genes of the second type, likewise.")
@pairs_option
@click.option(
    "--formula", metavar="FORMULA", help="Covariates of samples, e.g. '~ condition + sex'."
)
@click.option(
    "--method",
    type=click.Choice(["pearson", "spearman", "ols", "hc3", "corrected"]),
    help="Correlation or regression between samples.  [default: pearson]",
)
@click.option(
    "--normalization",
    type=click.Choice(["tmm", "median_of_ratios", "cpm"]),
    help="Normalisation of library sizes, of each type.  [default: tmm]",
)
@block_option
@block_method_option
@permutations_option
@moderated_option
@click.option("--seed", type=int, help="Seed of the permutations.")
@output_options
def across(
    data: Path,
    data_options: dict[str, Any],
    column: str,
    type_a: str,
    type_b: str,
    genes_a: str | None,
    genes_b: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Correlate genes of one cell type with genes of another over the samples of DATA."""
    output.check()
    require_sample(data_options)
    of_model = {
        **data_options,
        "cell_type": column,
        "types": (type_a, type_b),
        "genes_a": gene_list_of(genes_a),
        "genes_b": gene_list_of(genes_b),
        **{
            k: options.pop(k)
            for k in ("pairs", "formula", "normalization", "block", "block_method")
        },
    }
    options["moderated"] = moderated_of(options["moderated"])
    run_model("AcrossCellTypes", data, given(of_model), given(options), output)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--members",
    required=True,
    metavar="GENES",
    help="Genes of the signature, separated by commas, or a file with one per line.",
)
@click.option("--name", default="signature", show_default=True, help="Name of the signature.")
@click.option(
    "--weights",
    type=click.Choice(["equal", "expression", "eigengene"]),
    default="equal",
    show_default=True,
    help="Weights of the genes.",
)
@genes_option
@cell_covariates_option
@block_option
@click.option(
    "--uncertainty",
    type=click.Choice(["hierarchical", "jackknife", "cluster", "none"]),
    help="Method for standard errors.",
)
@output_options
def signature(
    data: Path,
    data_options: dict[str, Any],
    members: str,
    genes: str | None,
    covariates: str | None,
    block: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Estimate the correlation of a group of genes with every gene of DATA, within samples."""
    output.check()
    require_sample(data_options)
    group = members_of(members)
    of_model = {
        **data_options,
        "genes": genes_of(genes),
        "covariates": covariates,
        "block": block,
    }
    run_model("signature", data, given(of_model), {"members": group, **given(options)}, output)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--score",
    required=True,
    metavar="COL",
    help="Column of obs with the score: numbers, or two levels.",
)
@click.option("--name", help="Name of the score.  [default: that of the column]")
@click.option(
    "--sets",
    metavar="FILE",
    help="Correlate the score with these modules, a GMT file, instead of with every gene.",
)
@module_weights_option
@genes_option
@cell_covariates_option
@depth_adjust_option
@block_option
@click.option(
    "--uncertainty",
    type=click.Choice(["hierarchical", "jackknife", "cluster", "none"]),
    help="Method for standard errors.",
)
@output_options
def score(
    data: Path,
    data_options: dict[str, Any],
    genes: str | None,
    covariates: str | None,
    depth_adjust: bool | None,
    block: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Estimate the correlation of a number per cell with every gene of DATA, within samples.

    With --sets, with modules of genes.
    """
    output.check()
    require_sample(data_options)
    of_model = {
        **data_options,
        "genes": genes_of(genes),
        "covariates": covariates,
        "depth_adjust": depth_adjust,
        "block": block,
    }
    run_model("score", data, given(of_model), given(options), output)


def run_model(
    kind: str,
    data: Any,
    of_model: dict[str, Any],
    of_fit: dict[str, Any],
    output: Output,
) -> None:
    """Fit a model, save the result and print a table."""
    import hiercorr as hc

    progress = output.progress
    if kind == "by_cell_type":
        _run_cell_types(data, of_model, of_fit, output)
        return
    if kind == "differential":
        result = hc.differential(data, progress=progress, **of_model, **of_fit)
    elif kind == "signature":
        members = of_fit.pop("members", None)
        if not members:
            raise InputError("a signature needs members = [genes] in [fit]")
        result = hc.CSCore(data, **of_model).signature(members, progress=progress, **of_fit)
    elif kind == "score":
        if "score" not in of_fit:
            raise InputError('a score needs score = "column of obs" in [fit]')
        result = hc.CSCore(data, **of_model).score(progress=progress, **of_fit)
    elif kind in _OF_MODULES:
        result = _OF_MODULES[kind](data, of_model, of_fit, progress)
    elif kind == "direct_partners":
        result = hc.direct_partners(hc.CSCore(data, **of_model), **of_fit)
    elif kind == "BayesianCorrelation":
        result = _bayesian(data, of_model, of_fit, progress)
    else:
        result = getattr(hc, kind)(data, **of_model).fit(progress=progress, **of_fit)
    output.summarise(result)


def _bayesian(
    data: Any, of_model: dict[str, Any], of_fit: dict[str, Any], progress: bool | None
) -> Any:
    """Fit the pairs of a panel or of a target, or one gene against many on grids."""
    from hiercorr import BayesianCorrelation
    from hiercorr.bayes.model import METHODS

    target = of_fit.get("target")
    if not isinstance(target, str | None):
        raise InputError("the Bayesian model takes one --target, or none with --genes")
    if of_fit.get("method") != _GRIDS:
        one_of("method", of_fit.get("method", "marginal"), (*METHODS, _GRIDS))
        return BayesianCorrelation(data, **of_model).fit(progress=progress, **of_fit)
    if target is None:
        raise InputError("--method grids needs --target: the gene whose pairs are fitted")
    options = {k: v for k, v in of_fit.items() if k in _FIT_MANY - {"target", "method"}}
    return BayesianCorrelation(data, **of_model).fit_many(target, progress=progress, **options)


def _modules(
    data: Any, of_model: dict[str, Any], of_fit: dict[str, Any], progress: bool | None
) -> Any:
    """Correlate modules with each other, or with every gene."""
    from hiercorr import CSCore

    options, sets = _sets_of(of_fit)
    membership = options.pop("membership", False)
    if not isinstance(membership, bool):
        raise InputError(f"membership must be true or false, not {membership!r}")
    model = CSCore(data, **of_model)
    method = model.module_membership if membership else model.module_correlation
    return method(sets, progress=progress, **options)


def _module_differences(
    data: Any, of_model: dict[str, Any], of_fit: dict[str, Any], progress: bool | None
) -> Any:
    from hiercorr.modules import differential_correlation

    options, sets = _sets_of(of_fit)
    return differential_correlation(data, sets=sets, **of_model, **options)


def _module_traits(
    data: Any, of_model: dict[str, Any], of_fit: dict[str, Any], progress: bool | None
) -> Any:
    from hiercorr import Pseudobulk

    options, sets = _sets_of(of_fit)
    if "traits" not in options:
        raise InputError('traits of samples are needed: traits = ["column of obs"] in [fit]')
    return Pseudobulk(data, **of_model).module_traits(sets, **options)


def _sets_of(of_fit: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Split off the modules."""
    if "sets" not in of_fit:
        raise InputError(
            "modules are needed: --sets FILE, or sets = {name = [genes]} or a GMT file in [fit]"
        )
    return {k: v for k, v in of_fit.items() if k != "sets"}, of_fit["sets"]


_OF_MODULES = {
    "modules": _modules,
    "differential_correlation": _module_differences,
    "module_traits": _module_traits,
}


def _run_cell_types(
    data: Any, of_model: dict[str, Any], of_fit: dict[str, Any], output: Output
) -> None:
    from hiercorr import by_cell_type

    if "cell_type" not in of_model:
        raise InputError("cell_type is needed: the column of obs with the cell types")
    family = of_fit.pop("family", "all")
    found = by_cell_type(data, family=family, fit=of_fit, **of_model)

    def table() -> str:
        gene = of_fit.get("target")
        gene = gene if isinstance(gene, str) else None
        top = found.top(gene, output.rows) if gene else found.pairs(n=output.rows)
        return f"{found}\n\n{top.to_string(float_format=lambda v: f'{v:.3g}')}"

    output.finish(found, table)
