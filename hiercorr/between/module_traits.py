"""Expression of modules in samples, and its correlation with traits of the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, Protocol

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr.between.dataset import fit_attributes, with_design
from hiercorr.between.methods import BetweenProblem
from hiercorr.between.normalization import log_cpm
from hiercorr.between.options import BetweenOptions, BlockFacts
from hiercorr.between.pair_tests import BetweenEstimates, PairOptions
from hiercorr.between.rectangle import estimate_rectangle
from hiercorr.counts.cell_scores import coded
from hiercorr.counts.gene_groups import LEAST
from hiercorr.counts.names import FeatureNames
from hiercorr.design import formulas
from hiercorr.design.permutation import Arrangements
from hiercorr.errors import DataWarning, EstimationWarning, InputError, listed, one_of, unknown_name
from hiercorr.results import tiling
from hiercorr.results.missing import count_missing
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import build_dataset

Array = NDArray[np.float64]
TRAIT_METHODS = ("pearson", "spearman")
MODULE_WEIGHTS = ("equal", "expression")


class SummedModel(Protocol):
    """What is needed of :class:`hiercorr.Pseudobulk`."""

    samples: ad.AnnData
    library_sizes: Array
    formula: str | None

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of its results."""


def known_modules(
    sets: Mapping[str, Sequence[str]], strict: bool, names: FeatureNames, totals: Array
) -> dict[str, NDArray[np.int64]]:
    """Return the positions of the genes of each module that have counts.

    Parameters
    ----------
    sets : mapping
    strict : bool
        Whether a gene that is not in the data is an error; otherwise it is left out.
    names : FeatureNames
    totals : ndarray, shape (n_genes,)
        Sums over the samples.

    Raises
    ------
    InputError
        If a gene is unknown, or no module has 2 genes with counts.

    Warns
    -----
    DataWarning
        If modules with fewer are left out.
    """
    out, few = {}, []
    for name, genes in sets.items():
        named = [names.named(gene) for gene in genes]
        at = names.genes.get_indexer(pd.Index(named, dtype=object))
        if strict and (at < 0).any():
            raise names.unknown(f"gene of module {name!r}", named[int(np.flatnonzero(at < 0)[0])])
        at = np.unique(at[at >= 0]).astype(np.int64)
        at = at[totals[at] > 0]
        if len(at) < LEAST:
            few.append(name)
        else:
            out[name] = at
    if not out:
        first = next(iter(sets.values()))[0]
        raise InputError(
            f"no module has 2 genes with counts in these samples, e.g. {first!r}: do the modules "
            "and the data name genes alike?"
        )
    if few:
        some = ", ".join(few[:5]) + (", ..." if len(few) > 5 else "")
        warn(
            f"{len(few)} of {len(sets)} modules have fewer than 2 genes with counts and are left "
            f"out: {some}",
            DataWarning,
        )
    return out


def expression_of(
    counts: Array,
    libraries: Array,
    modules: Mapping[str, NDArray[np.int64]],
    weights: str | Mapping[str, Array],
) -> tuple[Array, Array]:
    """Compute the expression of modules in samples, (n_samples, n_modules), and their sums.

    Parameters
    ----------
    counts : ndarray, shape (n_samples, n_genes)
    libraries : ndarray, shape (n_samples,)
    modules : mapping
        Positions of the genes.
    weights : {"equal", "expression"} or mapping
        Mean of the log2 counts per million of the genes, or log2 counts per million of their sum;
        or the weights of the genes of each module in that mean.
    """
    sums = np.column_stack([counts[:, at].sum(1) for at in modules.values()])
    if isinstance(weights, str) and weights == "expression":
        return log_cpm(sums, libraries), sums
    means = []
    for name, at in modules.items():
        w = np.ones(len(at)) if isinstance(weights, str) else weights[name]
        means.append(log_cpm(counts[:, at], libraries) @ w / np.abs(w).sum())
    return np.column_stack(means), sums


def given_weights(
    weights: object, modules: Mapping[str, NDArray[np.int64]], names: FeatureNames
) -> str | dict[str, Array]:
    """Check the weights of modules; return those of their genes in order.

    Raises
    ------
    InputError
        If they are neither a known name nor numbers for all genes of all modules.
    """
    if not isinstance(weights, Mapping):
        one_of("weights", weights, MODULE_WEIGHTS)
        return str(weights)
    out = {}
    for name, at in modules.items():
        of = weights.get(name)
        if not isinstance(of, Mapping | pd.Series):
            raise InputError(
                "weights must be 'equal', 'expression' or weights of genes by module, such as "
                f"those of CSCore.module_weights(); module {name!r} has {of!r}"
            )
        known = {names.named(gene): w for gene, w in of.items()}
        genes = names.genes[at]
        for gene in genes:
            w = known.get(gene)
            if not isinstance(w, Real) or isinstance(w, bool) or not np.isfinite(float(w)):
                raise InputError(
                    f"weights= of gene {gene!r} in module {name!r} is no finite number: {w!r}"
                )
        out[name] = np.array([float(known[gene]) for gene in genes])
        if not out[name].any():
            raise InputError(f"all weights of module {name!r} are 0")
    return out


def given_traits(traits: object, obs: pd.DataFrame, varying: Sequence[str]) -> list[str]:
    """Check and return the names of traits."""
    expected = "a column of obs with one value per sample, or a list of columns"
    names = [traits] if isinstance(traits, str) else listed("traits", traits, expected)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"traits must be {expected}, not {traits!r}")
    twice = pd.Index(names)[pd.Index(names).duplicated()]
    if len(twice):
        raise InputError(f"traits names {twice[0]!r} twice")
    for name in names:
        if name in varying:
            raise InputError(
                f"trait {name!r} varies within samples: a trait has one value per sample; a number "
                "per cell is a score, CSCore.score(sets=)"
            )
        if name not in obs:
            raise unknown_name("trait", name, obs.columns)
    return list(names)


def trait_values(
    obs: pd.DataFrame, names: Sequence[str], formula: str | None
) -> dict[str, tuple[Array, str | None]]:
    """Return the values of each trait as numbers, and the level that is coded as 1.

    Raises
    ------
    InputError
        If a trait is missing in a sample, constant, neither numeric nor of two levels, or part of
        the formula.
    """
    out = {}
    in_formula = [] if formula is None else formulas.columns(formula)
    for name in names:
        if name in in_formula:
            raise InputError(
                f"trait {name!r} is part of the formula {formula!r}, given which it does not vary: "
                "leave it out of one of them"
            )
        column = obs[name]
        missing = column.index[column.isna()]
        if len(missing):
            raise InputError(
                f"trait {name!r} is missing for sample {missing[0]!r}; leave it out with subset="
            )
        values, level = coded(column, name, "trait")
        if not np.isfinite(values).all():
            raise InputError(f"trait {name!r} has an infinite value: traits must be finite")
        if np.ptp(values) == 0:
            raise InputError(f"trait {name!r} has the same value in all samples: leave it out")
        out[name] = values, level
    return out


def refuse_traits_of_blocks(obs: pd.DataFrame, names: Sequence[str], block: str) -> None:
    """Raise an error for traits that do not vary within blocks, which are adjusted for."""
    for name in names:
        if (obs.groupby(block, observed=True)[name].nunique() <= 1).all():
            raise InputError(
                f"trait {name!r} has one value in each {block!r}, and blocks are adjusted for: "
                "nothing can be compared within them; use block_method='correlation'"
            )


def fit_traits(
    model: SummedModel,
    problem: BetweenProblem,
    n_traits: int,
    asked: BetweenOptions,
    facts: BlockFacts,
    orders: Arrangements | None,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Correlate traits, the first columns of a problem, with modules, its others.

    Returns
    -------
    Dataset
        Traits are targets, and modules take the place of genes.
    """
    options = PairOptions(
        None,
        tiling.DTYPE[asked.precision],
        asked.confidence,
        np.zeros(len(problem.genes), np.uint16),
        orders,
        asked.progress,
        partial(asked.moderation, facts),
    )
    fitted: BetweenEstimates = estimate_rectangle(problem, n_traits, asked, options)
    warning = count_missing(fitted.pair, fitted.pair["flag"]).warning()
    if warning is not None:
        warn(warning, EstimationWarning)
    obs = model.samples.obs
    dataset = build_dataset(
        genes=problem.genes[n_traits:],
        samples=model.samples.obs_names,
        pair=fitted.pair,
        gene={name: values[n_traits:] for name, values in fitted.gene.items()},
        sample={
            "n_cells": obs["n_cells"].to_numpy(),
            "total_depth": obs["depth"].to_numpy(float),
            "library_size": model.library_sizes,
        },
        target=list(problem.genes[:n_traits]),
        attrs={
            "title": "correlation of modules with traits of samples",
            "model": "Pseudobulk",
            **fit_attributes(problem, fitted, asked, options, model.attributes["block"]),
            "n_cells": int(obs["n_cells"].sum()),
            **model.attributes,
            **attrs,
        },
    )
    described = {"long_name": "expression of the sample", "units": "log2 counts per million"}
    values = (("sample", "gene"), problem.expression[:, n_traits:], described)
    return with_design(dataset.assign(expression=values), problem)
