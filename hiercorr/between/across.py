"""AcrossCellTypes: correlation of genes of one cell type with genes of another, over samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from hiercorr.between import rectangle
from hiercorr.between.dataset import fit_attributes, with_design
from hiercorr.between.methods import BetweenProblem
from hiercorr.between.options import BetweenOptions, BlockFacts
from hiercorr.between.pair_tests import BetweenEstimates, PairOptions
from hiercorr.between.pseudobulk import Pseudobulk, sample_arrangements
from hiercorr.between.two_types import gene_lists, joined, sum_types, two_types
from hiercorr.counts.aggregate import MIN_COUNTS, depth_column
from hiercorr.counts.counts import MIN_CELLS
from hiercorr.counts.modalities import FEATURE_TYPES
from hiercorr.counts.selection import Selection, check_other_subset
from hiercorr.counts.sources import DataSource
from hiercorr.counts.targets import Pairs, given_pairs
from hiercorr.design.formulas import random_blocks
from hiercorr.design.samples import sample_name
from hiercorr.errors import (
    EstimationWarning,
    one_of,
    text,
    whole_number,
    without_effect,
)
from hiercorr.results import CorrelationResult, tiling
from hiercorr.results.missing import count_missing
from hiercorr.results.specified import Specified, sample_text
from hiercorr.runtime.log import LOG
from hiercorr.runtime.resources import available_memory
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import CELL_TYPE, GENE_ID, build_dataset

METHODS = ("pearson", "spearman", "ols", "hc3", "corrected")
ACROSS_BLOCK_METHODS = ("fixed", "correlation")


class AcrossCellTypes(Specified):
    r"""Correlation over samples between the genes of two cell types, as of ligand and receptor.

    "In donors whose T cells express more of A, do the macrophages express more of B?" The counts
    of each type are summed, normalised and logged as in :class:`hiercorr.Pseudobulk`, separately
    for each type; each gene of the first type is then correlated with each gene of the second,
    over the samples that have both, given a formula. n is the number of these samples:

    .. math:: \rho_{jk} = \operatorname{cor}_c(y^A_{cj}, y^B_{ck} \mid X_c)

    Pairs of genes within one type are not tested. A correlation across types is no proof that one
    cell signals to the other: everything that samples differ in (treatment, batch, quality,
    ambient RNA, a third cell type) correlates them as well. Put what is known into the formula.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    sample : str
        Column of ``obs`` with the sample of each cell; two columns: their combinations.
    cell_type : str
        Column of ``obs`` with the cell type of each cell; those of other types are not used.
    types : (str, str)
        The first cell type, of the genes `genes_a`, and the second, of `genes_b`.
    formula : str, optional
        Covariates of samples, e.g. ``"~ condition + batch"``. A random intercept
        ``(1 | donor)`` is ``block="donor"`` with ``block_method="correlation"``.
    genes_a, genes_b : sequence of str, bool mask or int, optional
        Genes of the first and of the second type: names, a mask over all genes, or N for the N
        most highly expressed genes of the type. None: all genes with counts in the type.
    pairs : DataFrame, path, mapping or sequence of (str, str), optional
        Pairs to test, instead of `genes_a` and `genes_b`: a gene of the first type and one of the
        second, as for :meth:`hiercorr.CSCore.fit`, or in the first two columns of a table, such as
        a list of ligands and receptors. Pairs with a gene that is not in the data, or without
        counts in its type, are left out with a warning.
    normalization : {"tmm", "median_of_ratios", "cpm"}
        Normalisation of library sizes, of each type from all of its genes.
    layer, depth, gene_names
        As for :class:`hiercorr.CSCore`.
    subset : mapping, optional
        Further selection of cells, ``{"obs column": value or list of values}``.
    block : str, optional
        Column of ``obs`` with the donor of each sample, where donors have several samples.
    block_method : {"fixed", "correlation"}, optional
        As for :class:`hiercorr.Pseudobulk`; None: ``"fixed"``.
    min_cells, min_counts, small_samples
        As for :func:`hiercorr.aggregate`, for the cells of each type in a sample. Samples that
        have too few of either type are left out, with a warning.

    Attributes
    ----------
    samples : AnnData
        Sums: samples x genes of both types. Genes have the name of their type behind their own
        unless they were chosen in one type only; ``var["feature_types"]`` is the type.
    types : tuple of str
    genes_a, genes_b : Index
        Names of the chosen genes, such as ``"CD40LG"``; ``"CD40 (T cell)"`` if a gene was chosen
        in both types.
    expression : DataFrame
        log2 counts per million, samples x chosen genes of both types.
    design : DesignMatrix
        Matrix and coefficient names of the formula (with block effects where they are fixed).

    Raises
    ------
    InputError
        If an option is not valid, a type or gene is unknown or without counts, or fewer than 4
        samples have both types.

    Warns
    -----
    DataWarning
        If samples are left out because they lack cells of one type.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> adata.obs["kind"] = ["even" if k % 2 else "odd" for k in range(adata.n_obs)]
    >>> lists = {"genes_a": ["FTL", "FTH1"], "genes_b": ["FTL", "SPP1", "CXCL2"]}
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}, **lists}
    >>> model = hc.AcrossCellTypes(adata, "sample_id", "kind", ("even", "odd"), **options)
    >>> r = model.fit()
    >>> r.matrix().shape, list(r.dataset["target"].values)
    ((2, 3), ['FTL (even)', 'FTH1'])
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str | tuple[str, str],
        cell_type: str,
        types: Sequence[str],
        formula: str | None = None,
        *,
        genes_a: Sequence[str] | ArrayLike | int | None = None,
        genes_b: Sequence[str] | ArrayLike | int | None = None,
        pairs: Pairs = None,
        normalization: str = "tmm",
        layer: str | None = None,
        depth: str | ArrayLike | None = None,
        subset: Mapping[str, Any] | None = None,
        gene_names: str | None = None,
        block: str | None = None,
        block_method: str | None = None,
        min_cells: int = MIN_CELLS,
        min_counts: int = MIN_COUNTS,
        small_samples: str = "exclude",
    ) -> None:
        text("cell_type", cell_type)
        text("formula", formula, optional=True)
        one_of("block_method", block_method, (None, *ACROSS_BLOCK_METHODS))
        whole_number("min_counts", min_counts, minimum=0)
        random_blocks(formula, block)
        self.types = two_types(types)
        check_other_subset(subset, cell_type)
        cells: dict[str, Any] = {
            "layer": layer,
            "depth": depth,
            "subset": subset,
            "min_cells": min_cells,
            "small_samples": small_samples,
            "block": block,
            "gene_names": gene_names,
        }
        wanted = given_pairs(pairs, ordered=True)
        if wanted is not None:
            none = "a list of genes: pairs= names the genes of both types"
            without_effect(genes_a=(genes_a, None, none), genes_b=(genes_b, None, none))
        self._lists = gene_lists(self.types, (genes_a, genes_b))
        selection = Selection(sample_name(sample), **cells)
        source = DataSource(data, layer, gene_names)
        *parts, self._listed = sum_types(
            source, cell_type, self.types, selection, self._lists, wanted, min_counts
        )
        self._parts = (parts[0], parts[1])
        self.genes_a, self.genes_b = (p.shown for p in self._parts)
        self._cell_type = cell_type
        self._model = Pseudobulk(
            joined(self._parts, cell_type, selection),
            sample,
            formula=formula,
            normalization=normalization,
            genes=[*self.genes_a, *self.genes_b],
            block=block,
            block_method=block_method,
        )
        self.samples, self.design = self._model.samples, self._model.design
        self.expression = self._model.expression[[*self.genes_a, *self.genes_b]]

    def fit(
        self,
        method: str | None = None,
        *,
        permutations: int | None = None,
        moderated: bool | str | Sequence[str] | None = None,
        precision: str | None = None,
        confidence: float = 0.95,
        seed: int | np.random.Generator | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlation of every gene of the first type with every one of the second.

        Parameters
        ----------
        method : {"pearson", "spearman", "ols", "hc3", "corrected"}, optional
            ``"pearson"`` (default), ``"spearman"``: correlation of log expression or of its ranks;
            with a formula, the partial correlation, as in :meth:`hiercorr.Pseudobulk.fit`.
            ``"ols"``, ``"hc3"``: regression of the gene of the second type on that of the first
            and the formula; ``"ols"`` without moderation is the same test as ``"pearson"``.
            ``"corrected"``: corrected for the sampling noise of the sums. The cells of two types
            are different cells, so that their noise is independent and only the variances are
            corrected: :math:`\rho = r / \sqrt{R_j R_k}` with the reliabilities R of both genes.
        permutations : int, optional
            p-values by permutation of the samples of one type against those of the other, as in
            :meth:`hiercorr.Pseudobulk.fit`, with ``"pearson"`` and ``"spearman"``.
        moderated : bool, {"trend", "robust", "trend+robust"} or sequence of these, optional
            Empirical-Bayes moderation of the residual variances over the genes of the second type,
            with ``"ols"``. None: True for ``"ols"`` and at least 20 of these genes.
        precision : {"single", "double"}, optional
            Precision of the output. None: double for fewer than 4 million pairs.
        confidence : float
            Confidence level of the intervals.
        seed : int or Generator, optional
            Seed of the permutations and of the pivotal draws of ``"corrected"``.
        progress : bool, optional
            Whether to show a progress bar. None: in a terminal, for long work.

        Returns
        -------
        CorrelationResult
            Pair variables (target, gene): targets are the genes of the first type; with ``pairs``,
            (pair). ``q_value`` is over all these pairs, one family. ``cell_type`` and
            ``target_cell_type`` state the type of each gene. In tables, gene_a is of the first
            type and gene_b of the second.

        Raises
        ------
        InputError
            If an option is not valid, or has no effect with the others.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> adata.obs["kind"] = ["even" if k % 2 else "odd" for k in range(adata.n_obs)]
        >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
        >>> lists = {"genes_a": ["FTL"], "genes_b": ["FTH1", "SPP1"]}
        >>> types = ("even", "odd")
        >>> r = hc.AcrossCellTypes(adata, "sample_id", "kind", types, **options, **lists).fit()
        >>> r.dataset.attrs["q_family"]
        'the 2 pairs of 1 gene of even with 2 genes of odd'
        """
        one_of("method", method, (None, *METHODS))
        method = "pearson" if method is None else method
        n_a, n_b = len(self.genes_a), len(self.genes_b)
        if precision is None:
            precision = "double" if n_a * n_b < tiling.COMPUTED_FROM else "single"
        asked = BetweenOptions(
            method,
            str(self.genes_a[0]),  # stands for all: moderation needs the direction of a regression
            None,
            {},
            permutations,
            precision,
            confidence,
            seed,
            progress,
            moderated,
        )
        facts = self._facts()
        asked.check(facts)
        dtype = tiling.DTYPE[precision]
        rectangle.check_rectangle(n_a, n_b, dtype, available_memory())
        LOG.info(
            "AcrossCellTypes.fit(method=%r): %d x %d genes, %d samples",
            method,
            n_a,
            n_b,
            self.samples.n_obs,
        )
        problem = self._problem(asked)
        orders = sample_arrangements(asked, problem)
        options = PairOptions(
            None,
            dtype,
            confidence,
            problem.gene_flags(),
            orders,
            progress,
            partial(asked.moderation, facts),
        )
        cells = None
        if method == "corrected":
            a, b = (
                rectangle.CellsOfType(*part.read_cells(), sizes)
                for part, sizes in zip(self._parts, self._libraries, strict=True)
            )
            cells = (a, b)
        fitted = rectangle.estimate_rectangle(problem, n_a, asked, options, cells, self._listed)
        return CorrelationResult(self._dataset(problem, fitted, asked, options))

    @property
    def _libraries(self) -> list[np.ndarray]:
        """Effective library sizes of both types."""
        return list(self._model.libraries.values())

    def _facts(self) -> BlockFacts:
        s, k = self.design.matrix.shape
        block = self._model.block
        n_blocks = 0 if block is None else self.samples.obs[block].nunique()
        return BlockFacts(block, self._model.block_method, n_blocks, s - k, True)

    def _problem(self, asked: BetweenOptions) -> BetweenProblem:
        blocks, genes = None, self.expression.columns
        if self._model.block is not None:
            blocks = pd.factorize(self.samples.obs[self._model.block])[0].astype(np.int64)
        problem = BetweenProblem(
            genes,
            np.asarray(self.samples[:, genes].X, float),
            self.expression.to_numpy(),
            self._model.library_sizes,
            self.design,
            blocks,
            False,
            {},
        )
        if self._model.block_method == "correlation":
            return problem.with_block_correlation(asked.method)
        return problem

    def _dataset(
        self,
        problem: BetweenProblem,
        fitted: BetweenEstimates,
        asked: BetweenOptions,
        options: PairOptions,
    ) -> xr.Dataset:
        """Build the dataset of a fit."""
        warning = count_missing(fitted.pair, fitted.pair["flag"]).warning()
        if warning is not None:
            warn(warning, EstimationWarning)
        n, obs = len(self.genes_a), self.samples.obs
        var = self.samples.var.loc[problem.genes]
        depth = np.where(
            var[FEATURE_TYPES] == self.types[0],
            obs["depth"].sum(),
            obs[depth_column(self.types[1])].sum(),
        )
        gene = {
            "mean": problem.counts.sum(0) / depth,
            "detection": var["detection"].to_numpy(),
            **fitted.gene,
            CELL_TYPE: var[FEATURE_TYPES].astype(str).to_numpy(object),
            "gene_flag": options.gene_flag,
        }
        if GENE_ID in var:
            gene[GENE_ID] = var[GENE_ID].astype(str).to_numpy(object)
        libraries = self._libraries
        layout: dict[str, Any] = {
            "genes": self.genes_b,
            "gene": {name: values[n:] for name, values in gene.items()},
            "target": list(self.genes_a),
            "of_target": {name: values[:n] for name, values in gene.items()},
        }
        if self._listed is not None:
            a, b = np.nonzero(self._listed)
            ends = (self.genes_a.to_numpy()[a], self.genes_b.to_numpy()[b])
            layout = {"genes": problem.genes, "gene": gene, "listed": ends}
        dataset = build_dataset(
            **layout,
            samples=self.samples.obs_names,
            pair=fitted.pair,
            sample={
                "n_cells": obs["n_cells"].to_numpy(),
                "n_cells_a": obs["n_cells_a"].to_numpy(),
                "n_cells_b": obs["n_cells_b"].to_numpy(),
                "library_size_a": libraries[0],
                "library_size_b": libraries[1],
            },
            attrs={
                "title": "correlation between samples across cell types",
                "model": "AcrossCellTypes",
                **fit_attributes(problem, fitted, asked, options, self._model.attributes["block"]),
                "n_cells": int(obs["n_cells"].sum()),
                **self._attributes(),
            },
        )
        described = {"long_name": "expression of the sample", "units": "log2 counts per million"}
        own = problem.expression if self._listed is not None else problem.expression[:, n:]
        dataset = dataset.assign(expression=(("sample", "gene"), own, described))
        if self._listed is None:
            of_targets = (("sample", "target"), problem.expression[:, :n], described)
            dataset = dataset.assign(target_expression=of_targets)
        return with_design(dataset, problem)

    def _attributes(self) -> dict[str, Any]:
        a, b = self.types
        kind = "" if self._listed is None else "listed "
        numbers = [f"{len(g):,} gene{'s' * (len(g) != 1)}" for g in (self.genes_a, self.genes_b)]
        n = len(self.genes_a) * len(self.genes_b)
        if self._listed is not None:
            n = int(self._listed.sum())
        across = (
            f"the {n:,} {kind}pair{'s' * (n != 1)} of {numbers[0]} of {a} with {numbers[1]} of {b}"
        )
        chosen = [Selection(None, genes=g).attributes["genes"] for g in self._lists]
        return {
            **self._model.attributes,
            "cell_type": None,
            "cell_type_column": self._cell_type,
            "cell_type_a": a,
            "cell_type_b": b,
            "genes": f"{a}: {chosen[0]}; {b}: {chosen[1]}" if self._listed is None else "of pairs",
            "q_family": across,
            "pairs_across": across,
        }

    def _specification(self) -> dict[str, Any]:
        return {
            "samples": sample_text(self.samples.n_obs, self._model.sample),
            "genes": " x ".join(
                f"{len(g):,} ({t})"
                for g, t in zip((self.genes_a, self.genes_b), self.types, strict=True)
            ),
            "formula": self._model.formula or "~ 1",
            "block": self._model.block,
            "normalization": self._model.normalization,
        }
