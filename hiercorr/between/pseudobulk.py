"""Pseudobulk: correlation and regression between samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hiercorr.between import methods, module_traits, slopes
from hiercorr.between.dataset import SEPARATOR, between_dataset
from hiercorr.between.normalization import NORMALIZATIONS, library_sizes, log_cpm
from hiercorr.between.options import BLOCK_METHODS, BetweenOptions, BlockFacts
from hiercorr.between.pair_tests import PairOptions
from hiercorr.between.summed_cells import SummedCells
from hiercorr.counts import validate
from hiercorr.counts.aggregate import KEY, MIN_COUNTS, depth_column, sum_over_cells
from hiercorr.counts.counts import MIN_CELLS
from hiercorr.counts.gene_groups import Sets, named_sets
from hiercorr.counts.modalities import FEATURE_TYPES
from hiercorr.counts.names import FeatureNames
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource
from hiercorr.counts.targets import Pairs, Target, pairs_asked
from hiercorr.design import formulas
from hiercorr.design.levels import in_order
from hiercorr.design.matrix import own_coefficients, sample_design
from hiercorr.design.permutation import Arrangements, arrangements
from hiercorr.design.samples import (
    check_block,
    refuse_missing,
    refuse_swapped,
    sample_name,
    warn_of_few_donors,
    warn_of_repeated_donors,
    with_combinations,
)
from hiercorr.errors import (
    EstimationWarning,
    InputError,
    one_of,
    text,
    unknown_name,
    whole_number,
    without_effect,
)
from hiercorr.results import CorrelationResult, tiling
from hiercorr.results.listed import selected_pairs, stacked
from hiercorr.results.specified import Specified, sample_text
from hiercorr.runtime.log import LOG, pairs_of
from hiercorr.runtime.resources import available_memory
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import GENE_ID

Weights: TypeAlias = Mapping[str, Mapping[str, float] | pd.Series]


class Pseudobulk(Specified):
    r"""Correlation of genes between samples, from counts summed per sample.

    "In donors where A is high, is B high too?" Counts are summed over the cells of each sample,
    normalised and logged; genes are then correlated over the samples, given a formula. n is the
    number of samples.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`; or the output of
        :func:`hiercorr.aggregate`.
    sample : str
        Column of ``obs`` with the sample of each cell; two columns: their combinations.
    cell_type : str, optional
        Column of ``obs``: units are samples x cell types. If there are several types, they enter
        the formula, and the types of one sample form a block.
    formula : str, optional
        Covariates of samples, e.g. ``"~ condition + gender"``. A random intercept,
        ``"~ condition + (1 | donor)"``, is ``block="donor"`` with
        ``block_method="correlation"``; there may be two, ``"(1 | donor) + (1 | batch)"``, crossed
        or nested.
    normalization : {"tmm", "median_of_ratios", "cpm"}
        Normalisation of library sizes, from all genes of the matrix.
    genes, layer, depth, subset, modalities, gene_names
        As for :class:`hiercorr.CSCore`. With several types of features, the libraries of each are
        normalised with its own counts.
    block : str, optional
        Column of ``obs`` with the donor of each sample, where samples of one donor are not
        independent.
    block_method : {"fixed", "correlation", "cluster"}, optional
        ``"fixed"`` (default): a fixed effect for each block, so that the correlation is within
        blocks. ``"correlation"``: one correlation of the samples of a block for all genes, by REML
        as in limma's duplicateCorrelation (default for cell types). ``"cluster"``: cluster-robust
        standard errors (CR2, Satterthwaite degrees of freedom), with a target.
    min_cells, min_counts, small_samples
        As for :func:`hiercorr.aggregate`.

    Attributes
    ----------
    samples : AnnData
        Sums, as returned by :func:`hiercorr.aggregate`.
    library_sizes : ndarray, shape (n_samples,)
        Effective library sizes in counts; with several types of features, those of the first.
    libraries : dict of ndarray, shape (n_samples,)
        Effective library sizes by type of features.
    expression : DataFrame
        log2 counts per million, samples x chosen genes.
    design : DesignMatrix
        Matrix and coefficient names of the formula (with block effects where they are fixed).

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"formula": "~ condition", "depth": "total_counts", "block": "patient_id"}
    >>> pb = hc.Pseudobulk(adata, "sample_id", **options)
    >>> r = pb.fit(target="FTL")
    >>> r.dataset["coefficient"].values[[0, -2, -1]].tolist()
    ['Intercept', 'condition[T.panobinostat]', 'FTL']
    """

    def __init__(
        self,
        data: ad.AnnData | str | Path,
        sample: str | tuple[str, str],
        cell_type: str | None = None,
        formula: str | None = None,
        normalization: str = "tmm",
        genes: Sequence[str] | ArrayLike | int | None = None,
        layer: str | None = None,
        depth: str | ArrayLike | Mapping[str, Any] | None = None,
        subset: ArrayLike | Mapping[str, Any] | None = None,
        *,
        modalities: str | Sequence[str] | None = None,
        gene_names: str | None = None,
        block: str | None = None,
        block_method: str | None = None,
        min_cells: int = MIN_CELLS,
        min_counts: int = MIN_COUNTS,
        small_samples: str = "exclude",
    ) -> None:
        text("formula", formula, optional=True)
        one_of("normalization", normalization, NORMALIZATIONS)
        one_of("block_method", block_method, (None, *BLOCK_METHODS))
        whole_number("min_counts", min_counts, minimum=0)
        fixed, random = formulas.random_blocks(formula, block, 2)
        if random:
            if block_method not in (None, "correlation"):
                raise InputError(
                    f"block_method={block_method!r} cannot be combined with the random intercept "
                    f"(1 | {random[0]}), which is block_method='correlation'; use "
                    f"block={random[0]!r} instead of the random intercept"
                )
            formula, block, block_method = fixed, random[0], "correlation"
        if block_method is not None and block is None and cell_type is None:
            raise InputError(
                f"block_method={block_method!r} needs block=, the column that contains the blocks"
            )
        sample = sample_name(sample)
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
            modalities=modalities,
            gene_names=gene_names,
        )
        self.sample, self.normalization, self._selection = sample, normalization, selection
        self._crossed = random[1] if len(random) > 1 else None
        self._cells: SummedCells | None = None
        source: DataSource | None = None
        if isinstance(data, ad.AnnData) and KEY in data.uns:
            self.samples = _aggregated(data, selection, min_counts)
            ids = self.samples.var.get(GENE_ID)
            ids = None if ids is None else pd.Index(ids.astype(str))
            self._names = FeatureNames(self.samples.var_names, ids)
        else:
            source = DataSource(data, layer, selection.gene_names)
            summed = sum_over_cells(source, selection, min_counts)
            self.samples, self._names = summed.samples, summed.names
            self._cells = SummedCells(source.with_obs(summed.obs), summed.selection, summed.digest)
        obs = self.samples.obs
        types = obs[cell_type].nunique() if cell_type is not None and cell_type in obs else 1
        self.block = block or (sample if types > 1 else None)
        self.block_method = (
            block_method or ("correlation" if types > 1 else "fixed") if self.block else None
        )
        self._cell_type = cell_type if types > 1 else None
        self.formula = _with_types(formula, cell_type if types > 1 else None)
        self._varying = varying = str(self.samples.uns[KEY]["varying"]).split(", ")
        groupings = [g for g in (self.block, self._crossed) if g is not None]
        for name in groupings:
            self._check_grouping(name, varying, source)
        if self.block is not None and self.block_method == "fixed":
            warn_of_few_donors(self.block, obs[self.block].nunique())
        if self._crossed is not None:
            codes = [pd.factorize(obs[g])[0] for g in groupings]
            if (codes[0] == codes[1]).all():
                raise InputError(
                    f"the random intercepts of {groupings[0]!r} and {groupings[1]!r} group the "
                    "samples alike and cannot be told apart: leave one of them out"
                )
        if len(obs) < 3:
            raise InputError(
                f"{len(obs)} samples: correlation between samples needs at least 3; see "
                "hiercorr.CSCore"
            )
        self.design = sample_design(
            self.formula, obs, varying, self.block if self.block_method == "fixed" else None
        )
        s, k = self.design.matrix.shape
        if s < k + 2:
            raise InputError(
                f"formula {self.design.formula!r} has {k} coefficients: with the gene that is "
                "correlated it needs at least "
                f"{k + 2} samples for 1 residual degree of freedom, and there are {s}; drop terms"
            )
        if self.block is None:
            columns = {str(c): obs[c] for c in obs.columns if c != sample}
            warn_of_repeated_donors(
                columns,
                sample,
                len(obs),
                "p-values are too small",
                "block={column}",
            )
        self.libraries = _libraries_of_types(self.samples, normalization)
        self.library_sizes = next(iter(self.libraries.values()))
        self.expression = self._expression(())

    def _check_grouping(self, name: str, varying: Sequence[str], source: DataSource | None) -> None:
        """Raise an error if a column does not group the samples."""
        obs = self.samples.obs
        if name in varying and source is not None:
            with source.open() as opened:
                refuse_swapped(name, self.sample, with_combinations(opened.obs, self.sample))
        check_block(name, obs, varying, obs.columns)
        values = obs[name]
        refuse_missing(name, values)
        if values.nunique() == 1:
            raise InputError(
                f"block={name!r} has one value, {values.iloc[0]!r}, in all {len(values)} samples: "
                "leave it out"
            )
        if values.nunique() == len(values):
            raise InputError(
                f"block={name!r} has a different value in each of the {len(values)} samples and no "
                "effect: leave it out"
            )

    def _expression(self, always: Sequence[str]) -> pd.DataFrame:
        x, names = np.asarray(self.samples.X), self.samples.var_names
        total = x.sum(0).astype(float)
        kinds = _kinds(self.samples)
        kind = None if len(self.libraries) == 1 else pd.factorize(kinds)[0]
        chosen = validate.choose_genes(self._names, self._selection.genes, total, always, kind)
        expression = np.empty((len(x), len(chosen)))
        for name, sizes in self.libraries.items():
            at = kinds[chosen] == name
            expression[:, at] = log_cpm(x[:, chosen[at]], sizes)
        return pd.DataFrame(expression, self.samples.obs_names, names[chosen])

    def fit(
        self,
        method: str | None = None,
        *,
        target: Target = None,
        pairs: Pairs = None,
        interaction: str | None = None,
        contrasts: Mapping[str, str | Sequence[str]] | None = None,
        permutations: int | None = None,
        moderated: bool | str | Sequence[str] | None = None,
        precision: str | None = None,
        confidence: float = 0.95,
        seed: int | np.random.Generator | None = None,
        progress: bool | None = None,
    ) -> CorrelationResult:
        r"""Estimate the correlations between samples.

        Parameters
        ----------
        method : {"pearson", "spearman", "ols", "hc3", "voom", "negative_binomial", "corrected"},
        optional
            ``"pearson"``, ``"spearman"``: correlation of log expression or of its ranks; with a
            formula, the partial correlation, :math:`t = r\sqrt{df/(1-r^2)}` on samples - 2 -
            covariates degrees of freedom (Spearman without covariates and up to 9 samples: the
            exact distribution). ``"partial"`` is an alias of ``"pearson"``. With a target, the
            regression of each gene on the target and the formula: ``"ols"`` (the same test, with
            all coefficients), ``"hc3"`` (robust standard errors), ``"voom"`` (precision weights),
            ``"negative_binomial"`` (of the sums, with the library size as offset). ``"corrected"``:
            corrected for the sampling noise of the sample means (equations in
            :mod:`hiercorr.between.noise_correction`). None: ``"ols"`` with a target, otherwise
            ``"pearson"``.
        target : str or sequence of str, optional
            Estimate this gene, or each of these, against all others only. With several, every
            target has its own fit, coefficients are left out, and the distinct pairs of all targets
            are the family of tests.
        pairs : DataFrame, sequence of (str, str) or mapping, optional
            Estimate these pairs only, as for :meth:`hiercorr.CSCore.fit`, from the fits of their
            targets; they are the family of tests.
        interaction : str, optional
            Let the target's slope depend on this column of the formula. The coefficients
            ``TARGET:term`` are the differences in slope (``coefficients("FTL:condition[T.b]")``);
            the correlation and the target's own coefficient then refer to the value 0 or the
            baseline of the column. With ``"ols"``, ``"hc3"`` and ``"voom"``.
        contrasts : mapping, optional
            Name -> linear combination of coefficients, ``"condition[T.b] - condition[T.c]"``, or
            ``(column, level, baseline)``; added to the coefficients.
        permutations : int, optional
            p-values by permutation: all arrangements if there are no more than this number,
            otherwise this number at random (Freedman-Lane with covariates; within blocks).
        moderated : bool, {"trend", "robust", "trend+robust"} or sequence of these, optional
            Empirical-Bayes moderation of the residual variances over genes (limma's eBayes), with a
            target and ``"ols"`` or ``"voom"``. True: towards a common prior variance. ``"trend"``:
            the prior variance depends on mean log expression. ``"robust"``: the prior withstands
            hypervariable genes, which are moderated less. All tests of coefficients and contrasts
            are moderated; the correlation is not, and its standard error is multiplied by the
            ratio of moderated to ordinary standard error of the coefficient. None: True for at
            least 20 genes, without permutations and cluster-robust errors; otherwise False.
        precision : {"single", "double"}, optional
            Precision of the output. None: double with a target, otherwise single; p-values are
            always double.
        confidence : float
            Confidence level of the intervals.
        seed : int or Generator, optional
            Seed of the permutations and of the pivotal draws of ``"corrected"``.
        progress : bool, optional
            Whether to show a progress bar. None: in a terminal, for long work.

        Returns
        -------
        CorrelationResult
            With the coefficients of every term (and contrast) for each gene as ``beta``, see
            :meth:`CorrelationResult.coefficients`. If the variances were moderated, the attributes
            ``moderated``, ``prior_df`` and ``prior_variance`` (medians over genes; by gene in the
            gene table for a trend or robust prior), and ``ordinary_p_value``.

        Raises
        ------
        InputError
            If an option is not valid, does not fit the design, or has no effect with the others.

        References
        ----------
        Freedman & Lane 1983; MacKinnon & White 1985; Law et al. 2014 (voom); Smyth 2004, Phipson
        et al. 2016 (moderation); Smyth et al. 2005 (duplicateCorrelation); Bell & McCaffrey 2002,
        Pustejovsky & Tipton 2018 (CR2); Weerahandi 1993 (generalised pivotal quantities).

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
        >>> model = hc.Pseudobulk(adata, "sample_id", formula="~ gender", **options)
        >>> r = model.fit(target="FTL")
        >>> r.top(n=1)["correlation"].round(2).to_dict()
        {'CXCL2': 0.99}
        """
        text("method", method, optional=True)
        wanted = pairs_asked(target, pairs).named(self._names.named)
        targets, listed = wanted.targets, wanted.listed
        if method in (None, "partial", "pearson"):
            method = "ols" if targets is not None else "pearson"
        asked = BetweenOptions(
            method,
            None if targets is None else targets[0],
            interaction,
            {} if contrasts is None else contrasts,
            permutations,
            _default_precision(targets) if precision is None else precision,
            confidence,
            seed,
            progress,
            moderated,
        )
        facts = self._facts()
        asked.check(facts)
        if self.several_types and asked.method in _ONE_LIBRARY:
            raise InputError(
                f"method={asked.method!r} needs one library of each sample, and the features are "
                f"of the types {', '.join(self.libraries)}: use 'pearson', 'spearman', 'ols' or "
                "'hc3', which take log expression, or one type (modalities=)"
            )
        known = all(gene in self.expression for gene in wanted.genes)
        expression = self.expression if known else self._expression(wanted.genes)
        if targets is None:
            return self._fit_one(expression, asked, facts)
        several = len(targets) > 1 or listed is not None
        if several and (asked.interaction is not None or asked.contrasts):
            raise InputError(
                "interaction= and contrasts= are coefficients of the regressions on one target: "
                "name one, target="
            )
        parts = [self._fit_one(expression, replace(asked, target=name), facts) for name in targets]
        if not several:
            return parts[0]
        dataset = stacked([part.dataset for part in parts])
        return CorrelationResult(dataset if listed is None else selected_pairs(dataset, listed))

    def compare_slopes(
        self,
        target: str,
        condition: str,
        *,
        adjustment: str = "holm",
        moderated: bool | str | Sequence[str] | None = None,
        confidence: float = 0.95,
    ) -> pd.DataFrame:
        r"""Compare the slopes on a target between groups of samples, together and in pairs.

        Is the relation of a gene with the target, between donors, the same in all groups? Log
        expression is regressed on the target with a slope of each group,
        :math:`y_s = a_{g(s)} + b_{g(s)} x_s + z_s'\gamma + \epsilon_s`, by least squares with a
        residual variance that is common to the groups. The F test is that all slopes b are equal,
        on groups - 1 numerator degrees of freedom.

        Parameters
        ----------
        target : str
            Gene.
        condition : str
            Column of the formula, with two groups or more of at least 3 samples.
        adjustment : {"holm", "tukey"}
            For the number of pairs of groups of one gene. ``"tukey"``: Tukey-Kramer, by the
            studentised range; more powerful, and valid for slopes that are estimated independently
            in each group with one residual variance: the formula must have no other terms, and the
            model no blocks. ``"holm"``: valid always.
        moderated : bool, {"trend", "robust", "trend+robust"} or sequence of these, optional
            As for :meth:`fit`.
        confidence : float
            Confidence level of the intervals, which are not adjusted.

        Returns
        -------
        DataFrame
            Indexed by gene and contrast (``"c - b"``), smallest p of the F test first:
            slope_difference, se, ci_lower, ci_upper, statistic, df, p_value and adjusted_p_value
            (over the contrasts of the gene); f_statistic, df_denominator, f_p_value and f_q_value
            (Benjamini-Hochberg over genes) of the gene. NaN for genes that do not vary.

        Raises
        ------
        InputError
            If the condition is not a column of groups in the formula, a group has fewer than 3
            samples, or the adjustment is not valid for the model.

        References
        ----------
        Kramer 1956, Biometrics 12:307; Hayter 1984, Annals of Statistics 12:61; Holm 1979.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"formula": "~ condition", "depth": "total_counts", "genes": 40}
        >>> table = hc.Pseudobulk(adata, "sample_id", **options).compare_slopes("FTL", "condition")
        >>> table.columns[-4:].to_list()
        ['f_statistic', 'df_denominator', 'f_p_value', 'f_q_value']
        """
        one_of("adjustment", adjustment, slopes.ADJUSTMENTS)
        text("condition", condition)
        name = pairs_asked(target, None).named(self._names.named).genes
        if len(name) != 1:
            raise InputError(f"target: slopes are compared on one gene, not {target!r}")
        asked = BetweenOptions(
            "ols", name[0], condition, {}, None, "double", confidence, None, None, moderated
        )
        facts = self._facts()
        asked.check(facts)
        known = name[0] in self.expression
        expression = self.expression if known else self._expression(name)
        groups = self._groups(condition)
        if self.block_method == "cluster":
            raise InputError(
                "block_method='cluster' has no common residual variance, and slopes are compared "
                "by it: use block_method='fixed' or 'correlation'"
            )
        if adjustment == "tukey" and not groups.alone:
            raise InputError(
                "adjustment='tukey' is valid if the slopes of groups are estimated independently: "
                f"formula {self.design.formula!r} has other terms, or samples have blocks; use "
                "adjustment='holm'"
            )
        problem = self._problem(expression, asked)
        kind = asked.moderation(facts, int((np.ptp(problem.expression, axis=0) > 0).sum()) - 1)
        at = int(expression.columns.get_loc(name[0]))
        table = slopes.slope_table(problem, at, groups, adjustment, kind, confidence)
        table.attrs = {
            "model": "Pseudobulk.compare_slopes",
            "target": name[0],
            "condition": condition,
            "adjustment": adjustment,
            "df_numerator": len(groups.names) - 1,
            "moderated": kind,
            "confidence": confidence,
            "formula": self.design.formula,
            **self.attributes,
        }
        return table

    def _groups(self, condition: str) -> slopes.Groups:
        """Return the groups of a column of the formula."""
        columns = list(self._interaction_terms(condition, "condition="))
        values = self.design.table[condition]
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            raise InputError(
                f"condition {condition!r} is a number: its slopes change by "
                f"fit(target=..., interaction={condition!r}); if the numbers are codes of groups, "
                f"use strings, obs[{condition!r}].astype(str)"
            )
        size = values.astype(str).value_counts()
        if size.min() < slopes.LEAST:
            raise InputError(
                f"group {size.idxmin()!r} of {condition!r} has {size.min()} samples: a slope of "
                f"its own needs at least {slopes.LEAST}; leave it out with subset="
            )
        levels = in_order(values)
        rows = self.design.level_rows(condition, levels)
        others = [k for k in range(self.design.matrix.shape[1]) if k not in columns]
        alone = len(others) <= 1 and self.block is None
        return slopes.Groups([str(v) for v in levels], rows, alone)

    def _fit_one(
        self, expression: pd.DataFrame, asked: BetweenOptions, facts: BlockFacts
    ) -> CorrelationResult:
        """Fit all pairs, or those of one target."""
        genes, target = expression.columns, asked.target
        rows = tiling.rows_of(target, genes)
        dtype = tiling.DTYPE[asked.precision]
        tiling.check_memory(len(genes), 0, tiling.n_rows(rows), False, dtype, available_memory())
        LOG.info(
            "Pseudobulk.fit(method=%r): %s of %d genes, %d samples",
            asked.method,
            pairs_of(target),
            len(genes),
            len(expression),
        )
        problem = self._problem(expression, asked)
        orders = sample_arrangements(asked, problem)
        options = PairOptions(
            rows,
            dtype,
            asked.confidence,
            problem.gene_flags(),
            orders,
            asked.progress,
            partial(asked.moderation, facts),
        )
        cells = None
        if asked.method == "corrected" and self._cells is not None:
            cells = self._cells.of(self.samples, genes)
        fitted = methods.estimate(problem, asked, options, cells)
        return CorrelationResult(
            between_dataset(self.samples, problem, fitted, asked, options, self.attributes)
        )

    def module_expression(self, sets: Sets, weights: str | Weights = "equal") -> pd.DataFrame:
        """Compute the expression of modules in each sample.

        Parameters
        ----------
        sets : mapping, Modules or path
            Genes by name of the module, the modules of :func:`hiercorr.modules.find_modules`, or a
            GMT file, whose genes that are not in the data are left out.
        weights : {"equal", "expression"} or mapping
            ``"equal"``: mean of the log2 counts per million of the genes. ``"expression"``: log2
            counts per million of their sum, in which highly expressed genes weigh most. A mapping
            from modules to weights of genes in that mean, such as
            :meth:`hiercorr.CSCore.module_weights`: the eigengene of the correlation within samples,
            in each sample.

        Returns
        -------
        DataFrame
            Samples x modules, in log2 counts per million.

        Raises
        ------
        InputError
            If a module has fewer than 2 genes, or a gene is unknown.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> pb = hc.Pseudobulk(adata, "sample_id", depth="total_counts")
        >>> pb.module_expression({"ferritin": ["FTL", "FTH1"]}).shape
        (10, 1)
        """
        modules, values, _ = self._modules(sets, weights)
        out = pd.DataFrame(values, self.samples.obs_names, list(modules))
        out.attrs["of"] = "expression of modules"
        return out

    def _modules(
        self, sets: Sets, weights: object
    ) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.float64], NDArray[np.float64]]:
        """Return the genes of modules, and their expression and sums in each sample."""
        if self.several_types:
            raise InputError(
                "modules are of features with one library, and this model has several types "
                f"({', '.join(self.libraries)}): choose one with modalities="
            )
        counts = np.asarray(self.samples.X, float)
        modules = module_traits.known_modules(
            named_sets(sets), not isinstance(sets, str | Path), self._names, counts.sum(0)
        )
        of_genes = module_traits.given_weights(weights, modules, self._names)
        found = module_traits.expression_of(counts, self.library_sizes, modules, of_genes)
        return modules, *found

    def module_traits(
        self,
        sets: Sets,
        traits: str | Sequence[str],
        method: str = "pearson",
        *,
        weights: str | Weights = "equal",
        permutations: int | None = None,
        confidence: float = 0.95,
        seed: int | np.random.Generator | None = None,
    ) -> CorrelationResult:
        """Correlate the expression of modules with traits of the samples.

        "In donors who are older, is the module higher?" The samples are the units, and the formula
        of the model is adjusted for, as in :meth:`fit`. Samples of one donor need ``block=``; a
        trait of donors, ``block_method="correlation"``.

        Parameters
        ----------
        sets, weights
            As for :meth:`module_expression`.
        traits : str or sequence of str
            Columns of ``obs`` with one value per sample: numbers, booleans or two levels, of which
            the second is 1.
        method : {"pearson", "spearman"}
            Partial correlation given the formula, of values or of ranks.
        permutations, confidence, seed
            As for :meth:`fit`.

        Returns
        -------
        CorrelationResult
            Traits are targets, and modules take the place of genes. The pairs of all traits and
            modules are one family of tests.

        Raises
        ------
        InputError
            If a module or a trait is not valid, or a trait is part of the formula or, with
            ``block_method="fixed"``, does not vary within donors.

        References
        ----------
        Langfelder & Horvath 2008, BMC Bioinformatics 9:559.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "block": "patient_id"}
        >>> pb = hc.Pseudobulk(adata, "sample_id", **options)
        >>> sets = {"ferritin": ["FTL", "FTH1"], "ribosome": ["RPS2", "RPLP0"]}
        >>> r = pb.module_traits(sets, "condition")
        >>> r.target, list(r.genes)
        ('condition', ['ferritin', 'ribosome'])
        """
        one_of("method", method, module_traits.TRAIT_METHODS)
        names = module_traits.given_traits(traits, self.samples.obs, self._varying)
        found = module_traits.trait_values(self.samples.obs, names, self.design.formula)
        if self.block is not None and self.block_method == "fixed":
            module_traits.refuse_traits_of_blocks(self.samples.obs, names, self.block)
        modules, values, sums = self._modules(sets, weights)
        shared = [name for name in names if name in modules]
        if shared:
            raise InputError(f"{shared[0]!r} is the name of a module and of a trait: rename one")
        asked = BetweenOptions(
            method, names[0], None, {}, permutations, "double", confidence, seed, None, False
        )
        facts = self._facts()
        asked.check(facts)
        y = np.column_stack([*(v for v, _ in found.values()), values])
        columns = pd.DataFrame(y, self.samples.obs_names, [*names, *modules])
        n = np.ones((len(y), len(names)))
        problem = self._problem(columns, asked, np.column_stack([n, sums]))
        levels = {name: level for name, (_, level) in found.items() if level is not None}
        attrs = {
            "genes": f"{len(modules)} modules",
            "n_modules": len(modules),
            "weights": weights if isinstance(weights, str) else "given",
            "traits": ", ".join(names),
            "trait_levels": "; ".join(f"{k}: {v}" for k, v in levels.items()) or None,
        }
        orders = sample_arrangements(asked, problem)
        return CorrelationResult(
            module_traits.fit_traits(self, problem, len(names), asked, facts, orders, attrs)
        )

    def _specification(self) -> dict[str, Any]:
        samples, genes = self.expression.shape
        return {
            "samples": sample_text(samples, self.sample),
            "genes": genes,
            "formula": self.formula or "~ 1",
            "block": self.block,
            "normalization": self.normalization,
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of every result of the model: what was analysed, and how it was summed."""
        summed = self.samples.uns[KEY]
        known = ("sample", "cell_type", "hiercorr_version")
        return {
            **{k: v for k, v in summed.items() if k not in known and v not in ("", None)},
            "genes": self._selection.attributes["genes"],
            "normalization": self.normalization,
            "sample_column": self.sample,
            "cell_type": self._cell_type,
            "block": SEPARATOR.join(g for g in (self.block, self._crossed) if g) or None,
            "n_donors": None if self.block is None else self._facts().n_blocks,
            "block_method": self.block_method,
        }

    @property
    def several_types(self) -> bool:
        """Whether the features are of several types, each with its own library sizes."""
        return len(self.libraries) > 1

    def _facts(self) -> BlockFacts:
        s, k = self.design.matrix.shape
        n_blocks = 0 if self.block is None else self.samples.obs[self.block].nunique()
        return BlockFacts(self.block, self.block_method, n_blocks, s - k, self._cells is not None)

    def _problem(
        self,
        expression: pd.DataFrame,
        asked: BetweenOptions,
        sums: NDArray[np.float64] | None = None,
    ) -> methods.BetweenProblem:
        """Gather the sums of the genes and the design, with interactions and block correlation.

        `sums` are given where the columns of `expression` are no genes.
        """
        counts = np.asarray(self.samples[:, expression.columns].X, float) if sums is None else sums
        blocks = None
        if self.block is not None:
            blocks = pd.factorize(self.samples.obs[self.block])[0].astype(np.int64)
        crossed = None
        if self._crossed is not None:
            crossed = pd.factorize(self.samples.obs[self._crossed])[0].astype(np.int64)
        problem = methods.BetweenProblem(
            expression.columns,
            counts,
            expression.to_numpy(),
            self.library_sizes,
            self.design,
            blocks,
            self.block_method == "cluster",
            asked.contrasts,
            crossed=crossed,
        )
        if asked.interaction is not None:
            problem = replace(problem, interaction=self._interaction_terms(asked.interaction))
        if self.block_method == "correlation":
            problem = problem.with_block_correlation(asked.method)
        return problem

    def _interaction_terms(self, column: str, argument: str = "interaction=") -> tuple[int, ...]:
        """Find the coefficients of a column of the formula."""
        if column not in self.design.table:
            error = unknown_name("column of the formula", column, self.design.table.columns)
            raise InputError(
                f"{argument} {error}; a column of obs must be in the formula of the model: add it "
                "to formula="
            )
        terms = own_coefficients(self.design.names, column)
        if not terms:
            raise InputError(
                f"{argument} the formula {self.design.formula!r} contains {column!r} only "
                "inside other terms; add it as a "
                "term of its own"
            )
        n, k = self.design.matrix.shape
        if n < k + len(terms) + 2:
            raise InputError(
                f"interaction with {column!r} adds {len(terms)} coefficients to {k}: at least "
                f"{k + len(terms) + 2} samples "
                f"are needed, and there are {n}"
            )
        return tuple(terms)


def sample_arrangements(
    asked: BetweenOptions, problem: methods.BetweenProblem
) -> Arrangements | None:
    """Return the permutations of the samples that were asked for, if any."""
    if asked.permutations is None:
        return None
    n = len(problem.expression)
    orders = arrangements(n, asked.permutations, problem.blocks, asked.seed)
    if orders.smallest_p > 0.05:
        warn(
            f"{orders.possible} arrangements can give no p-value below {orders.smallest_p:.2g}",
            EstimationWarning,
        )
    return orders


_ONE_LIBRARY = ("voom", "negative_binomial", "corrected")  # methods of counts


def _kinds(samples: ad.AnnData) -> NDArray:
    """Return the type of each feature of the sums, shape (n_features,)."""
    if FEATURE_TYPES not in samples.var:
        return np.full(samples.n_vars, "", object)
    return samples.var[FEATURE_TYPES].astype(str).to_numpy(object)


def _libraries_of_types(samples: ad.AnnData, normalization: str) -> dict[str, NDArray[np.float64]]:
    """Return the effective library sizes of each type of features, from its own counts."""
    x, kinds = np.asarray(samples.X), _kinds(samples)
    out = {}
    for t, kind in enumerate(pd.unique(kinds)):
        column = "depth" if t == 0 else depth_column(kind)
        totals = samples.obs[column].to_numpy(float)
        out[kind] = library_sizes(x[:, kinds == kind], totals, normalization)
    return out


def _default_precision(target: object) -> str:
    return "single" if target is None else "double"


def _aggregated(data: ad.AnnData, selection: Selection, min_counts: int) -> ad.AnnData:
    """Check that counts that were aggregated before fit the selection, and copy them."""
    if any(
        getattr(selection, name) is not None
        for name in ("layer", "depth", "subset", "modalities", "gene_names")
    ):
        raise InputError(
            "layer, depth, subset, modalities and gene_names choose cells and features: pass them "
            "to hiercorr.aggregate instead"
        )
    needs = "cells: these counts are aggregated already"
    without_effect(
        min_cells=(selection.min_cells, MIN_CELLS, needs),
        small_samples=(selection.small_samples, "exclude", needs),
        min_counts=(min_counts, MIN_COUNTS, needs),
    )
    made_of = data.uns[KEY]["sample"]
    if selection.sample != made_of:
        raise InputError(
            f"these counts were aggregated by {made_of!r}, not by {selection.sample!r}"
        )
    return data.copy()


def _with_types(formula: str | None, cell_type: str | None) -> str | None:
    if cell_type is None or (formula is not None and cell_type in formulas.columns(formula)):
        return formula
    return f"~ C(`{cell_type}`)" if formula is None else f"{formula} + C(`{cell_type}`)"
