"""Fits of several cell types: one dataset with a dimension cell_type, one family of tests."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from hiercorr.counts.backend import LocalBackend
from hiercorr.counts.formats import unknown_column
from hiercorr.counts.selection import Selection, check_other_subset
from hiercorr.counts.sources import DataSource
from hiercorr.counts.targets import given_pairs, given_targets, not_both
from hiercorr.design import formulas
from hiercorr.design.levels import one_name_each
from hiercorr.design.samples import (
    OneSamplePerDonor,
    named_columns,
    refuse_swapped,
    sample_name,
    with_combinations,
)
from hiercorr.errors import (
    DataWarning,
    InputError,
    listed,
    one_of,
    text,
    unknown_name,
    whole_number,
    without_effect,
)
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results.adjust import mirrored
from hiercorr.results.cell_types import CellTypes
from hiercorr.results.layout import distinct
from hiercorr.results.pairs import p_values
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.resources import memory_bytes
from hiercorr.runtime.user_warnings import Kept, kept_for, warn, warn_of_parts
from hiercorr.within.cscore import CSCore
from hiercorr.within.options import FitOptions, ModelFacts

FAMILIES = ("all", "type")
_ARGUMENTS = ("data", "sample", "subset", "block")  # arguments of CSCore that by_cell_type sets
_STREAMED = ("out", "overwrite")
MODEL_OPTIONS = tuple(k for k in inspect.signature(CSCore).parameters if k not in _ARGUMENTS)
FIT_OPTIONS = tuple(
    k for k in inspect.signature(CSCore.fit).parameters if k not in ("self", *_STREAMED)
)


def by_cell_type(
    data: ad.AnnData | str | Path,
    cell_type: str,
    sample: str | tuple[str, str] | None,
    types: Sequence[str] | None = None,
    *,
    block: str | None = None,
    family: str = "all",
    fit: Mapping[str, Any] | None = None,
    subset: Mapping[str, Any] | None = None,
    **options: Any,
) -> CellTypes:
    """Estimate the correlation within samples in every cell type, with one family of tests.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    cell_type : str
        Column of ``obs`` with the cell types.
    sample : str
        Column of ``obs`` with the sample of each cell; two columns: their combinations.
    types : sequence of str, optional
        Cell types to use. None: all.
    block : str, optional
        Column of ``obs`` with the donor of each sample, where donors have several samples, as for
        :class:`hiercorr.CSCore`. In cell types with one sample per donor it has no effect.
    family : {"all", "type"}
        Whether q-values are over the pairs of all types together, or of each type separately.
    fit : mapping, optional
        Arguments of :meth:`hiercorr.CSCore.fit` other than `out` and `overwrite`, e.g.
        ``{"target": "FTL"}``.
    subset : mapping, optional
        Further selection of cells, ``{"obs column": value}``.
    **options
        Options of :class:`hiercorr.CSCore`: genes, layer, depth, gene_names, covariates,
        min_cells, small_samples, memory_limit, scratch, scheduler.

    Returns
    -------
    CellTypes

    Raises
    ------
    InputError
        If no type can be fitted, or an option is unknown, not valid, or has no effect.

    Warns
    -----
    DataWarning
        If a cell type is left out because it cannot be fitted.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"fit": {"target": "FTL"}, "depth": "total_counts", "genes": 20}
    >>> found = hc.by_cell_type(adata, "condition", "sample_id", **options)
    >>> dict(found.dataset.sizes)["cell_type"]
    2
    """
    sample = sample_name(sample, optional=True)
    text("cell_type", cell_type)
    one_of("family", family, FAMILIES)
    check_other_subset(subset, cell_type)
    block = _check_model_options(options, sample, subset, block)
    fit_options = _check_fit_options(fit)
    source_of = DataSource(data, options.get("layer"), options.get("gene_names"))
    with source_of.open() as source:
        selected = _selected_types(source.obs, cell_type, types)
        donors = _donors(with_combinations(source.obs, sample), sample, block)
    facts = ModelFacts(
        sample is not None,
        options.get("covariates") is not None,
        options.get("scheduler") is not None,
        donors,
        depth_adjust=bool(options.get("depth_adjust")),
    )
    fit_options.check(facts)
    if fit_options.chosen_uncertainty(facts) == "none":
        without_effect(family=(family, "all", "an uncertainty"))
    results: dict[str, CorrelationResult] = {}
    left_out: dict[str, str] = {}
    kept: Kept = {}
    for name, value in selected.items():
        cells = {**(subset or {}), cell_type: value}
        try:
            with kept_for(kept, name):
                model = _model(data, sample, block, cells, options)
                found = model.fit(**(fit or {})).dataset
            results[name] = CorrelationResult(found.assign_attrs(cell_type_column=cell_type))
        except InputError as error:
            left_out[name] = str(error)
    warn_of_parts(kept, "cell type")
    if not results:
        first = next(iter(left_out))
        raise InputError(f"no cell type could be fitted; {first!r}: {left_out[first]}")
    if left_out:
        reasons = "; ".join(f"{k!r}: {v}" for k, v in left_out.items())
        warn(f"{len(left_out)} cell types are left out: {reasons}", DataWarning)
    return CellTypes(_one_family(results) if family == "all" else results, left_out)


def _check_names(given: Iterable[str], known: Sequence[str], function: str) -> None:
    for name in given:
        if name not in known:
            raise InputError(
                f"unknown option {name!r} of {function}; the options are {', '.join(known)}"
            )


def _check_model_options(
    options: dict[str, Any],
    sample: str | None,
    subset: Mapping[str, Any] | None,
    block: str | None,
) -> str | None:
    """Raise an error for options of CSCore that are unknown or have a wrong type or value.

    A random intercept is taken out of the covariates; its column is returned as the block.
    """
    _check_names(options, MODEL_OPTIONS, "by_cell_type")
    selecting = ("genes", "layer", "depth", "gene_names", "min_cells", "small_samples")
    chosen = {k: v for k, v in options.items() if k in selecting}
    Selection(sample, subset=subset, block=block, **chosen)
    if options.get("covariates") is not None:
        given = options["covariates"]
        formula = formulas.formula_text(given)
        fixed, columns = formulas.random_blocks(formula, block)
        if columns:
            block = columns[0]
            nothing = fixed is None or fixed.replace(" ", "") == "~1"
            options["covariates"] = None if nothing else fixed
    LocalBackend(memory_bytes(options.get("memory_limit")), options.get("scratch"))
    return block


def _donors(obs: pd.DataFrame, sample: str | None, block: str | None) -> int:
    """Count the donors of all types; raise an error if the columns are unknown."""
    if sample is None:
        return 0
    for option, names in (("sample", named_columns(sample)), ("block", named_columns(block))):
        for column in names:
            if column not in obs:
                raise unknown_column(f"{option} column", column, obs)
    if block is None:
        return int(obs[sample].nunique())
    donors = int(obs[block].nunique())
    if donors > obs[sample].nunique():
        refuse_swapped(block, sample, obs)
    if block != sample and len(obs[[sample, block]].drop_duplicates()) == donors:
        raise InputError(
            f"block={block!r} has a different value in each sample and no effect: leave it out"
        )
    return donors


def _model(
    data: ad.AnnData | str | Path,
    sample: str | None,
    block: str | None,
    cells: Mapping[str, Any],
    options: Mapping[str, Any],
) -> CSCore:
    """Build the model of one type, whose samples may come from one donor each."""
    try:
        return CSCore(data, sample, subset=cells, block=block, **options)
    except OneSamplePerDonor:
        return CSCore(data, sample, subset=cells, **options)


def _check_fit_options(fit: object) -> FitOptions:
    """Raise an error for arguments of CSCore.fit that are unknown or have a wrong type or value."""
    if fit is not None and not isinstance(fit, Mapping):
        raise InputError(
            "fit must be a mapping with arguments of CSCore.fit, e.g. {'target': 'FTL'}, not "
            f"{fit!r}"
        )
    options = dict(fit or {})
    for name in _STREAMED:
        if name in options:
            raise InputError(
                f"{name}= is not available for several cell types: use save() of the result"
            )
    _check_names(options, FIT_OPTIONS, "CSCore.fit")
    whole_number("n_jobs", options.pop("n_jobs", None), optional=True)
    not_both(options.get("target"), options.get("pairs"))
    options["target"] = given_targets(options.get("target"))
    options["pairs"] = given_pairs(options.get("pairs"))
    return FitOptions(**options)


def _selected_types(
    obs: pd.DataFrame, cell_type: str, types: Sequence[str] | None
) -> dict[str, Any]:
    """Return the selected cell types and their values in `obs`."""
    if cell_type not in obs:
        raise unknown_column("cell_type column", cell_type, obs)
    one_name_each("cell_type column", cell_type, obs[cell_type])
    known = {str(t): t for t in pd.unique(obs[cell_type].dropna())}
    if types is None:
        return dict(sorted(known.items()))
    asked = listed("types", types, "a list of cell types")
    selected = list(dict.fromkeys(t if isinstance(t, str) else repr(t) for t in asked))
    if not selected:
        raise InputError("types= is empty: leave it out to use all cell types")
    for name in selected:
        if name not in known:
            raise unknown_name("cell type", name, known)
    return {name: known[name] for name in selected}


def _one_family(results: dict[str, CorrelationResult]) -> dict[str, CorrelationResult]:
    """Adjust the q-values over the distinct pairs of all results."""
    if not all("p_value" in r.dataset for r in results.values()):
        return results
    positions = [np.nonzero(distinct(r.dataset)) for r in results.values()]
    tested = [
        p_values(r.dataset)[pairs].astype(float)
        for r, pairs in zip(results.values(), positions, strict=True)
    ]
    ends = np.cumsum([len(p) for p in tested])[:-1]
    q_values = np.split(benjamini_hochberg(np.concatenate(tested)), ends)
    out = {}
    for (name, r), pairs, q in zip(results.items(), positions, q_values, strict=True):
        changed = r.dataset["q_value"].copy()
        changed.values = np.full(changed.shape, np.nan, changed.dtype)
        changed.values[pairs] = q
        mirrored(changed.values, r.dataset)
        family = f"{r.dataset.attrs['q_family']} of {len(results)} cell types"
        out[name] = CorrelationResult(
            r.dataset.assign(q_value=changed).assign_attrs(q_family=family)
        )
    return out
