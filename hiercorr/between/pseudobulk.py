"""Pseudobulk: correlation and regression between samples, with covariates, blocks and permutations."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hiercorr import kernels
from hiercorr.between import methods
from hiercorr.between.normalization import library_sizes, log_cpm
from hiercorr.between.pair_tests import BetweenEstimates, Options
from hiercorr.counts import validate
from hiercorr.counts.aggregate import KEY, MIN_COUNTS, sum_over_cells
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource
from hiercorr.design.matrix import own_coefficients, sample_design
from hiercorr.design.permutation import Arrangements, arrangements
from hiercorr.design.samples import check_block, warn_of_repeated_donors
from hiercorr.errors import (
    DataWarning,
    EstimationWarning,
    InputError,
    between_0_and_1,
    one_of,
    unknown_name,
)
from hiercorr.results import tiling
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.resources import available_memory
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import build_dataset

PSEUDOBULK_METHODS = ("pearson", "spearman", "ols", "hc3", "voom", "negative_binomial", "corrected")
BLOCK_METHODS = ("fixed", "correlation", "cluster")
_REGRESSIONS = ("ols", "hc3", "voom", "negative_binomial")


class Pseudobulk:
    r"""Correlation of genes between samples, from counts summed per sample.

    "In donors where A is high, is B high too?" Counts are summed over the cells of each sample, normalised and logged;
    genes are then correlated over the samples, given a formula. n is the number of samples.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`; or what :func:`hiercorr.aggregate` made of them.
    sample : str
        Column of ``obs`` that names the sample of each cell.
    cell_type : str, optional
        Column of ``obs``: units are samples x cell types. Where several types are left, they enter the formula and the
        types of one sample are one block.
    formula : str, optional
        Covariates of samples, e.g. ``"~ condition + gender"``.
    normalization : {"tmm", "median_of_ratios", "cpm"}
        Of library sizes, from all genes of the matrix.
    genes, layer, depth, subset
        As for :class:`hiercorr.CSCore`.
    block : str, optional
        Column of ``obs`` whose values hold several samples each that are not independent (the donor).
    block_method : {"fixed", "correlation", "cluster"}, optional
        ``"fixed"`` (default): an effect for each block, so that correlation is within blocks. ``"correlation"``: one
        correlation of the samples of a block for all genes, by REML as limma's duplicateCorrelation (default for cell
        types). ``"cluster"``: errors by block (CR2, Satterthwaite degrees of freedom), with a target.
    min_cells, min_counts, small_samples
        As for :func:`hiercorr.aggregate`.

    Attributes
    ----------
    samples : AnnData
        Sums, as :func:`hiercorr.aggregate` gives them.
    library_sizes : ndarray, shape (n_samples,)
        Effective library sizes in counts.
    expression : DataFrame
        log2 counts per million, samples x chosen genes.
    design : DesignMatrix
        Matrix and coefficient names of the formula (with block effects where they are fixed).

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> pb = hc.Pseudobulk(adata, "sample_id", formula="~ condition", depth="total_counts", block="patient_id")
    >>> r = pb.fit(target="FTL")
    >>> r.dataset["coefficient"].values[[0, -2, -1]].tolist()
    ['Intercept', 'condition[T.panobinostat]', 'FTL']
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str,
        cell_type: str | None = None,
        formula: str | None = None,
        normalization: str = "tmm",
        genes: Sequence[str] | ArrayLike | int | None = None,
        layer: str | None = None,
        depth: str | ArrayLike | None = None,
        subset: ArrayLike | Mapping[str, Any] | None = None,
        *,
        block: str | None = None,
        block_method: str | None = None,
        min_cells: int = MIN_CELLS,
        min_counts: int = MIN_COUNTS,
        small_samples: str = "exclude",
    ) -> None:
        one_of("block_method", block_method, (None, *BLOCK_METHODS))
        if block_method is not None and block is None and cell_type is None:
            raise InputError(
                f"block_method={block_method!r} needs block=, the column that holds the blocks"
            )
        selection = Selection(
            sample,
            genes=genes,
            layer=layer,
            depth=depth,
            subset=subset,
            min_cells=min_cells,
            small_samples=small_samples,
            block=block,
            cell_type=cell_type,
        )
        self.sample, self.normalization, self._selection = sample, normalization, selection
        self._cells: SummedCells | None = None
        if isinstance(data, ad.AnnData) and KEY in data.uns:
            self.samples = _aggregated(data, selection).copy()
        else:
            source = DataSource(data, layer)
            self.samples, digest = sum_over_cells(source, selection, min_counts)
            self._cells = SummedCells(source, replace(selection, min_cells=1), digest)
        obs = self.samples.obs
        types = obs[cell_type].nunique() if cell_type is not None and cell_type in obs else 1
        self.block = block or (sample if types > 1 else None)
        self.block_method = (
            block_method or ("correlation" if types > 1 else "fixed") if self.block else None
        )
        self.formula = _with_types(formula, cell_type if types > 1 else None)
        varying = str(self.samples.uns[KEY]["varying"]).split(", ")
        if self.block is not None:
            check_block(self.block, obs, varying, obs.columns)
        if len(obs) < 3:
            raise InputError(
                f"{len(obs)} samples: correlation between samples needs at least 3; see hiercorr.CSCore"
            )
        self.design = sample_design(
            self.formula, obs, varying, self.block if self.block_method == "fixed" else None
        )
        s, k = self.design.matrix.shape
        if s < k + 2:
            raise InputError(
                f"formula {self.design.formula!r} has {k} coefficients: with the gene that is correlated it needs at least "
                f"{k + 2} samples for 1 residual degree of freedom, and there are {s}; drop terms"
            )
        if self.block is None:
            columns = {str(c): obs[c] for c in obs.columns if c != sample}
            warn_of_repeated_donors(
                columns,
                sample,
                len(obs),
                "p-values are too small",
                "block={column}, sample={column}",
            )
        totals = obs["depth"].to_numpy(float)
        self.library_sizes = library_sizes(np.asarray(self.samples.X), totals, normalization)
        self.expression = self._expression(())

    def _expression(self, always: Sequence[str]) -> pd.DataFrame:
        x, names = np.asarray(self.samples.X), self.samples.var_names
        chosen = validate.choose_genes(names, self._selection.genes, x.sum(0).astype(float), always)
        return pd.DataFrame(
            log_cpm(x[:, chosen], self.library_sizes), self.samples.obs_names, names[chosen]
        )

    def fit(
        self,
        method: str | None = None,
        *,
        target: str | None = None,
        interaction: str | None = None,
        contrasts: Mapping[str, str | Sequence[str]] | None = None,
        permutations: int | None = None,
        precision: str | None = None,
        confidence: float = 0.95,
        seed: int | np.random.Generator | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlations between samples.

        Parameters
        ----------
        method : {"pearson", "spearman", "ols", "hc3", "voom", "negative_binomial", "corrected"}, optional
            ``"pearson"``, ``"spearman"``: correlation of log expression or of its ranks; given a formula, the partial
            correlation, :math:`t = r\sqrt{df/(1-r^2)}` on samples - 2 - covariates degrees of freedom (Spearman without
            covariates and up to 9 samples: the exact distribution). ``"partial"`` is another name of ``"pearson"``.
            With a target, each gene's regression on the target and the formula: ``"ols"`` (the same test, with all
            coefficients), ``"hc3"`` (robust errors), ``"voom"`` (precision weights), ``"negative_binomial"`` (of the
            sums, with the library as offset). ``"corrected"``: without the sampling noise of the samples' means (see
            :mod:`hiercorr.between.noise_correction` for equations). None: ``"ols"`` with a target, else ``"pearson"``.
        target : str, optional
            One gene against all others.
        interaction : str, optional
            Column of the formula: the target's slope may differ over it. The coefficients ``TARGET:term`` say by how much
            (``coefficients("FTL:condition[T.b]")``); the correlation and the target's own coefficient are then those where
            the column is 0 or at its baseline. With ``"ols"``, ``"hc3"`` and ``"voom"``.
        contrasts : mapping, optional
            Name -> linear combination of coefficients, ``"condition[T.b] - condition[T.c]"``, or
            ``(column, level, baseline)``; they join the coefficients.
        permutations : int, optional
            p-values by permutation: all arrangements where there are at most so many, else so many at random
            (Freedman-Lane with covariates; within blocks).
        precision : {"single", "double"}, optional
            Of the output. None: double with a target, else single; p-values are always double.
        confidence : float
            Level of the intervals.
        seed : int or Generator, optional
            For permutations and for the pivotal draws of ``"corrected"``.
        progress : bool, optional
            Show a progress bar. None: in a terminal, for long work.

        Returns
        -------
        CorrelationResult
            With coefficients of every term (and contrast) of each gene as ``beta``, see
            :meth:`CorrelationResult.coefficients`.

        Raises
        ------
        InputError
            If an option is unknown or does not fit the design.

        References
        ----------
        Freedman & Lane 1983; MacKinnon & White 1985; Law et al. 2014 (voom); Smyth et al. 2005 (duplicateCorrelation);
        Bell & McCaffrey 2002, Pustejovsky & Tipton 2018 (CR2); Weerahandi 1993 (generalised pivotal quantities).
        """
        method = {"partial": "pearson", None: "pearson" if target is None else "ols"}.get(
            method, method
        )
        assert method is not None
        if method == "pearson" and target is not None:
            method = "ols"
        self._check(method, target, permutations, precision, confidence)
        expression = (
            self.expression
            if target is None or target in self.expression
            else self._expression((target,))
        )
        genes = expression.columns
        rows = tiling.rows_of(target, genes)
        dtype = tiling.DTYPE[precision or ("single" if target is None else "double")]
        tiling.check_memory(len(genes), 0, target is not None, False, dtype, available_memory())
        problem = self._problem(expression, contrasts or {})
        if interaction is not None:
            problem = self._with_interaction(problem, interaction, method, target, permutations)
        if self.block_method == "correlation":
            problem = problem.with_block_correlation(method)
        chosen = self._arrangements(permutations, problem.blocks, seed)
        options = Options(rows, dtype, confidence, problem.gene_flags(), chosen, progress)
        if method in _REGRESSIONS:
            fitted = methods.regress_on_target(
                problem, method, int(genes.get_loc(target)), str(target), options
            )
        elif method == "corrected":
            assert self._cells is not None  # refused in _check
            cells, at = self._cells.of(self.samples, genes)
            fitted = methods.remove_noise(problem, cells, at, options, seed)
        else:
            fitted = methods.correlate_samples(problem, method == "spearman", options)
        if not fitted.coefficient and method != "spearman":
            fitted.coefficient = methods.formula_fit(problem)
        return self._result(method, target, genes, problem, fitted, options, seed)

    def _problem(
        self, expression: pd.DataFrame, contrasts: Mapping[str, str | Sequence[str]]
    ) -> methods.BetweenProblem:
        counts = np.asarray(self.samples[:, expression.columns].X, float)
        blocks = (
            None
            if self.block is None
            else pd.factorize(self.samples.obs[self.block])[0].astype(np.int64)
        )
        return methods.BetweenProblem(
            counts,
            expression.to_numpy(),
            self.library_sizes,
            self.design,
            blocks,
            self.block_method == "cluster",
            contrasts,
        )

    def _with_interaction(
        self,
        problem: methods.BetweenProblem,
        column: str,
        method: str,
        target: str | None,
        permutations: int | None,
    ) -> methods.BetweenProblem:
        if target is None or method not in ("ols", "hc3", "voom"):
            raise InputError(
                f"interaction={column!r} needs target= and method 'ols', 'hc3' or 'voom'"
            )
        if permutations is not None:
            raise InputError("permutations do not go with interaction=: leave one of them out")
        if column not in self.design.table:
            raise unknown_name(
                "interaction: column of the formula", column, self.design.table.columns
            )
        terms = own_coefficients(self.design.names, column)
        if not terms:
            raise InputError(
                f"interaction: the formula {self.design.formula!r} holds {column!r} only inside other terms; add it by itself"
            )
        n, k = self.design.matrix.shape
        if n < k + len(terms) + 2:
            raise InputError(
                f"interaction with {column!r} adds {len(terms)} coefficients to {k}: at least {k + len(terms) + 2} samples are "
                f"needed, and there are {n}"
            )
        return replace(problem, interaction=tuple(terms))

    def _arrangements(
        self, permutations: int | None, blocks: NDArray[np.int64] | None, seed: Any
    ) -> Arrangements | None:
        if permutations is None:
            return None
        chosen = arrangements(self.samples.n_obs, permutations, blocks, seed)
        if chosen.smallest_p > 0.05:
            warn(
                f"{chosen.possible} arrangements can give no p-value below {chosen.smallest_p:.2g}",
                EstimationWarning,
            )
        return chosen

    def _check(
        self,
        method: str,
        target: str | None,
        permutations: int | None,
        precision: str | None,
        confidence: float,
    ) -> None:
        one_of("method", method, PSEUDOBULK_METHODS)
        one_of("precision", precision, (None, *tiling.DTYPE))
        between_0_and_1("confidence", confidence)
        if target is None and (method in _REGRESSIONS or self.block_method == "cluster"):
            what = f"method={method!r}" if method in _REGRESSIONS else "block_method='cluster'"
            raise InputError(
                f"{what} regresses each gene on a target, whose p-value is not symmetric: name it with target="
            )
        if self.block_method == "cluster" and method != "ols":
            raise InputError(
                f"block_method='cluster' goes with method='ols', not {method!r}; or use block_method='fixed'"
            )
        if self.block_method == "correlation" and method not in ("pearson", "ols", "voom"):
            raise InputError(
                f"block_method='correlation' does not go with {method!r}; use block_method='fixed'"
            )
        if permutations is not None:
            if permutations < 19:
                raise InputError(
                    f"permutations={permutations}: at least 19 are needed for a p-value of 0.05"
                )
            if method not in ("pearson", "spearman", "ols"):
                raise InputError(
                    f"permutations go with 'pearson', 'spearman' and 'ols', not {method!r}"
                )
            if self.block_method in ("correlation", "cluster"):
                raise InputError(
                    "samples of one block change places only within it: use block_method='fixed'"
                )
        if self.block_method == "cluster" and self.samples.obs[self.block].nunique() < 3:
            raise InputError(
                f"block {self.block!r} has fewer than 3 values: no error by cluster can be estimated"
            )
        if method == "corrected":
            if self._cells is None:
                raise InputError(
                    "method='corrected' needs the cells: pass them instead of aggregated counts"
                )
            if self.samples.n_obs - self.design.matrix.shape[1] < 3:
                raise InputError(
                    "method='corrected' needs at least 3 residual degrees of freedom: more samples or fewer terms"
                )

    def _result(
        self,
        method: str,
        target: str | None,
        genes: pd.Index,
        problem: methods.BetweenProblem,
        fitted: BetweenEstimates,
        options: Options,
        seed: Any,
    ) -> CorrelationResult:
        missing = float(np.mean(np.isnan(fitted.pair["correlation"])))
        if missing > 0:
            warn(
                f"{missing:.1%} of the pairs could not be estimated; they are NaN and flagged, see result.flag_counts()",
                EstimationWarning,
            )
        obs, chosen = self.samples.obs, options.chosen
        depth = obs["depth"].to_numpy(float)
        products = [f"{target}:{self.design.names[k]}" for k in problem.interaction]
        names = [
            *self.design.names,
            *products,
            *([str(target)] if method in _REGRESSIONS else []),
            *problem.contrasts,
        ]
        uncertainty = {"corrected": "generalised pivotal quantity", "hc3": "t, HC3 errors"}.get(
            method, "t"
        )
        uncertainty = "t, CR2 errors by block" if self.block_method == "cluster" else uncertainty
        if chosen is not None:
            uncertainty = f"{'exact' if chosen.exact else 'Monte-Carlo'} permutation, {len(chosen.orders):,} arrangements"
        provenance = {
            k: v
            for k, v in self.samples.uns[KEY].items()
            if v and k not in ("sample", "cell_type", "hiercorr_version")
        }
        dataset = build_dataset(
            genes=genes,
            samples=self.samples.obs_names,
            pair=fitted.pair,
            gene={
                "mean": problem.counts.sum(0) / depth.sum(),
                "detection": self.samples.var["detection"].loc[genes].to_numpy(),
                **fitted.gene,
                "gene_flag": options.gene_flag,
            },
            sample={
                "n_cells": obs["n_cells"].to_numpy(),
                "total_depth": depth,
                "library_size": self.library_sizes,
            },
            target=target,
            coefficient=fitted.coefficient,
            coefficient_names=names,
            beta_units="natural log" if method == "negative_binomial" else "log2",
            attrs={
                "title": "correlation between samples",
                "model": "Pseudobulk",
                "estimator": method,
                "level": "between",
                "formula": self.design.formula + "".join(f" + {p}" for p in products),
                "uncertainty": uncertainty,
                "smallest_p_value": None if chosen is None else chosen.smallest_p,
                "normalization": self.normalization,
                "confidence": options.confidence,
                "n_cells": int(obs["n_cells"].sum()),
                "sample_column": self.sample,
                "block": self.block,
                "block_method": self.block_method,
                "block_correlation": problem.correlation,
                "seed": seed if isinstance(seed, int) else None,
                "note": _NOTES.get(method),
                **provenance,
            },
        )
        expression = {"long_name": "expression of the sample", "units": "log2 counts per million"}
        return CorrelationResult(
            dataset.assign(expression=(("sample", "gene"), problem.expression, expression))
        )


_NOTES = {
    "negative_binomial": "correlation is t / sqrt(t^2 + df) of the target's coefficient.",
    "voom": "correlation is the weighted partial correlation, t / sqrt(t^2 + df).",
    "corrected": "Correlations beyond 1 are withheld (see correlation_unclipped), their interval is not.",
}


@dataclass(frozen=True)
class SummedCells:
    """The cells behind the sums, read only where a method needs them.

    Attributes
    ----------
    source : DataSource
    selection : Selection
    digest : ndarray of uint64, shape (n_samples, n_vars)
        Identifies the counts that were summed.
    """

    source: DataSource
    selection: Selection
    digest: NDArray[np.uint64]

    def of(self, samples: ad.AnnData, genes: pd.Index) -> tuple[Counts, NDArray[np.int64]]:
        """Read the cells of some genes, and find the row of the sums for each of their samples (-1: excluded)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # issued when the counts were summed
            cells = read_counts(self.source, replace(self.selection, genes=list(genes)))
        at = samples.obs_names.get_indexer(cells.samples)
        if (at >= 0).sum() != samples.n_obs:
            raise InputError(
                "method='corrected' needs units that are samples: choose one cell type with subset="
            )
        columns = samples.var_names.get_indexer(cells.genes)
        digest = kernels.counts.entry_digest(cells.cells[cells.rows], cells.values, cells.offsets)[
            :, at >= 0
        ]
        changed = (digest != self.digest[at[at >= 0]][:, columns].T).any(1)
        if changed.any():
            raise InputError(
                f"the data have changed since this model summed them: the counts of {changed.sum()} genes are not the "
                f"same, e.g. {cells.genes[changed][0]!r}; create a new model"
            )
        return cells, at


def _aggregated(data: ad.AnnData, selection: Selection) -> ad.AnnData:
    if selection.layer is not None or selection.depth is not None or selection.subset is not None:
        raise InputError(
            "layer, depth and subset choose cells: pass them to hiercorr.aggregate instead"
        )
    made_of = data.uns[KEY]["sample"]
    if selection.sample != made_of:
        raise InputError(
            f"these counts were aggregated by {made_of!r}, not by {selection.sample!r}"
        )
    return data


def _with_types(formula: str | None, cell_type: str | None) -> str | None:
    if cell_type is None or (formula is not None and cell_type in formula):
        return formula
    return f"~ C(`{cell_type}`)" if formula is None else f"{formula} + C(`{cell_type}`)"
