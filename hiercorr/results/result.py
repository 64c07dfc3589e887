"""The result of every model: a Dataset with tables, text, plots and exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from hiercorr._version import __version__
from hiercorr.counts.selection import selected_cells
from hiercorr.errors import (
    InputError,
    instance_of,
    n_of,
    number,
    one_of,
    text,
    true_or_false,
    whole_number,
    without_effect,
)
from hiercorr.estimands import estimand
from hiercorr.results import exports, frames, layout, pairs, posterior, tables
from hiercorr.results.adjust import with_q_values
from hiercorr.results.computed import DeltaError, lazily
from hiercorr.results.limits import impossible_attribute, impossible_shape, impossible_value
from hiercorr.results.plots import Plots
from hiercorr.results.shrink import with_local_false_signs
from hiercorr.results.storage import read_dataset, write_dataset
from hiercorr.results.table_files import check_table_path, write_table
from hiercorr.schema import PAIR_VARIABLES, SCHEMA_VERSION, why_incomplete

if TYPE_CHECKING:
    import anndata as ad
    import networkx as nx
    from statsmodels.iolib.summary import Summary

    from hiercorr.results.cell_types import CellTypes


class CorrelationResult:
    """Correlations of gene pairs with their uncertainty: a Dataset with tables, text and exports.

    Parameters
    ----------
    dataset : xarray.Dataset
        In the schema of :func:`hiercorr.schema.build_dataset`.

    Attributes
    ----------
    dataset : xarray.Dataset
        All estimates and attributes; no method changes it.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 30, "block": "patient_id"}
    >>> r = hc.CSCore(adata, sample="sample_id", **options).fit()
    >>> r.top("FTL", n=3).columns[:2].tolist()
    ['correlation', 'ci_lower']
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        instance_of("dataset", dataset, xr.Dataset, "an xarray.Dataset")
        why = why_incomplete(dataset) or impossible_shape(dataset)
        if why is not None:
            raise InputError(f"not a hiercorr result: the dataset {why}")
        self.dataset = dataset

    @property
    def target(self) -> str | None:
        """The target gene, or None if there are several, or all pairs were estimated.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> r.target
        'FTL'
        """
        return layout.target_of(self.dataset)

    @property
    def targets(self) -> pd.Index | None:
        """The target genes, or None if all pairs, or listed pairs, were estimated.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target=["FTL", "FTH1"])
        >>> list(r.targets)
        ['FTL', 'FTH1']
        """
        return layout.targets_of(self.dataset)

    def of(self, target: str) -> CorrelationResult:
        """Return the pairs of one of several targets, as a result with one target.

        q-values remain those over the pairs of all targets.

        Parameters
        ----------
        target : str
            Name of a target, or its id where a column of the data named the genes.

        Returns
        -------
        CorrelationResult

        Raises
        ------
        InputError
            If it is not a target of this result.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target=["FTL", "FTH1"])
        >>> r.of("FTH1").top(n=1).index[0]
        'FTL'
        """
        text("target", target)
        if self.targets is None:
            raise InputError(f"this result has {layout.scope(self.dataset)}, and no targets")
        name, _ = pairs.row_of(self.dataset, target)
        at = int(self.targets.get_loc(name))
        return CorrelationResult(self.dataset.isel(target=slice(at, at + 1)))

    @property
    def genes(self) -> pd.Index:
        """Names of the genes.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> len(r.genes), "FTL" in r.genes
        (30, True)
        """
        return pairs.genes_of(self.dataset)

    @property
    def plot(self) -> Plots:
        """Plots as methods: ``r.plot.volcano()`` is ``hiercorr.plotting.volcano(r)``.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> r.plot.volcano()  # doctest: +SKIP
        """
        return Plots(self)

    @property
    def idata(self) -> Any:
        """Posterior draws as InferenceData, or as a DataTree with ArviZ 1 or newer.

        The groups of one pair are ``posterior``, ``sample_stats``, ``log_likelihood`` (per cell),
        ``log_prior``, ``posterior_predictive`` (50 data sets per chain), ``prior``,
        ``observed_data`` and ``constant_data``. Likelihoods and random counts of the cells are
        computed when they are asked for, and take 8 bytes per draw and cell (counts 4 per gene).

        With several pairs, variables have the dimension ``pair``, without the diagonal and with
        every pair once. The pairs of :class:`hiercorr.BayesianCorrelation` have separate posteriors
        (``idata["posterior"].attrs["note"]``), so that there is no likelihood of them all:
        :meth:`pair_idata` returns all groups of one of them. A joint fit has all groups but
        ``sample_stats``; its likelihoods and random counts are those of 100 draws of each chain,
        which ``idata.sel(draw=idata["log_likelihood"]["draw"])`` selects from all groups for
        leave-one-out cross-validation and comparisons.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> r = model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
        >>> r.idata["posterior"]["within"].dims
        ('chain', 'draw')
        >>> r.idata["log_likelihood"]["counts"].sizes["cell"]
        240
        """
        return posterior.to_arviz(self.dataset)

    def pair_idata(self, gene_a: str, gene_b: str) -> Any:
        """Return the posterior of one of several pairs with all groups, see :attr:`idata`.

        Parameters
        ----------
        gene_a, gene_b : str
            Names of the genes, in any order.

        Returns
        -------
        InferenceData or DataTree

        Raises
        ------
        InputError
            If the pair was not drawn.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 3, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> r = model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
        >>> r.pair_idata("gene0", "gene2")["posterior"]["sd_within"].dims
        ('chain', 'draw', 'gene')
        """
        text("gene_a", gene_a)
        text("gene_b", gene_b)
        return posterior.to_arviz(self.dataset, (gene_a, gene_b))

    def at(self, level: str) -> CorrelationResult:
        """Return the estimates at another level, if the model has both.

        Parameters
        ----------
        level : str
            For example ``"between"``, for a Bayesian result.

        Returns
        -------
        CorrelationResult
            With both levels, so that ``result.at("between").at("within")`` is `result` again.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
        >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
        >>> r = model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
        >>> r.at("between").dataset.attrs["level"]
        'between'
        """
        return CorrelationResult(posterior.at_level(self.dataset, level))

    def adjust(
        self, method: str = "bh", family: str = "all", level: float = 0.05
    ) -> CorrelationResult:
        """Recompute the q-values by another procedure or over another family of pairs.

        Parameters
        ----------
        method : {"bh", "by", "storey", "hierarchical", "bonferroni", "holm"}
            Benjamini-Hochberg; Benjamini-Yekutieli (valid under any dependence); Storey (BH times
            the estimated proportion of true null hypotheses); ``"hierarchical"``: select genes by
            their Simes p-values, then test pairs within the selected genes; ``"bonferroni"`` and
            ``"holm"`` bound the probability of any false discovery instead of their rate.
        family : {"all", "gene"}
            All distinct pairs, or the pairs of each gene separately (for one gene chosen
            beforehand).
        level : float
            Level for selecting genes with ``"hierarchical"``.

        Returns
        -------
        CorrelationResult
            The attributes ``q_method`` and ``q_family`` record the procedure and the family. With
            ``family="gene"`` or ``"hierarchical"``, ``q_value[gene, partner]`` refers to the
            family of `gene`.

        References
        ----------
        Benjamini & Yekutieli 2001; Storey, Taylor & Siegmund 2004; Benjamini & Bogomolov 2014;
        Holm 1979.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> r.adjust("by").dataset.attrs["q_family"]
        'all distinct pairs'
        """
        text("method", method)
        if method != "hierarchical":
            without_effect(level=(level, 0.05, "method='hierarchical'"))
        return CorrelationResult(with_q_values(self.dataset, method, family, level))

    def shrink(self) -> CorrelationResult:
        r"""Shrink the estimates by what all pairs say of their sizes; add local false sign rates.

        With :math:`z` the signed normal score of a pair's p-value,

        .. math:: z \sim N(\mu, 1), \quad \mu \sim \pi_0\delta_0 + \sum_k \pi_k N(0, \sigma_k^2)

        whose weights are learnt from all distinct pairs. ``lfsr`` is the posterior probability
        that the sign of the estimate is wrong or that there is no effect:
        at most 5% of the pairs with ``lfsr`` below 0.05 are expected to be false. It applies to
        each pair, whereas ``q_value`` averages over a list, and is therefore stricter where most
        pairs have no effect. Where few have none (small :math:`\pi_0`), more pairs can have
        ``lfsr`` than ``q_value`` below 0.05: Benjamini-Hochberg does not estimate
        :math:`\pi_0`. The
        estimate times :math:`E(\mu \mid z) / z` is the posterior mean of the correlation (or of
        the difference): it is what to rank by (``top(sort_by="shrunken")``) or plot
        (``plot.ranked(shrunken=True)``), as the largest raw estimates of thousands are mostly the
        noisiest.

        Returns
        -------
        CorrelationResult
            With ``lfsr`` and ``shrunken_correlation`` (or ``shrunken_difference``); the attributes
            ``null_share`` (:math:`\pi_0`) and ``shrunken_pairs`` give the estimated proportion of
            null pairs and the number of pairs it was estimated from.

        Raises
        ------
        InputError
            If the result has no p-values, or fewer than 60 tested pairs.

        References
        ----------
        Stephens 2017, Biostatistics 18:275.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit().shrink()
        >>> bool(r.pairs()["shrunken_correlation"].abs().max() <= 1)
        True
        """
        return CorrelationResult(with_local_false_signs(self.dataset))

    def top(
        self, gene: str | None = None, n: int = 20, *, sort_by: str = "p_value"
    ) -> pd.DataFrame:
        """Tabulate the partners of a gene, strongest evidence first.

        Parameters
        ----------
        gene : str, optional
            Name of the gene, or its id where a column of the data named the genes. May be omitted
            if the result has a target.
        n : int
            Number of partners.
        sort_by : {"p_value", "shrunken"}
            ``"shrunken"``: largest absolute shrunken estimate of :meth:`shrink` first.

        Returns
        -------
        DataFrame
            Indexed by gene; sorted by p-value, or by absolute correlation if there are no p-values
            (those with low information last). With several types of features, ``feature_type`` of
            the partners is the first column.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> r.top(n=2)[["correlation", "q_value"]].index.tolist()
        ['FTH1', 'RPLP0']
        """
        whole_number("n", n)
        one_of("sort_by", sort_by, pairs.SORTINGS)
        return tables.top(self.dataset, gene, n, sort_by)

    def pairs(
        self,
        q: float | None = None,
        min_correlation: float = 0.0,
        n: int | None = None,
        *,
        sort_by: str = "p_value",
    ) -> pd.DataFrame:
        """Tabulate the distinct pairs, strongest evidence first.

        Parameters
        ----------
        q : float, optional
            Maximum ``q_value``.
        min_correlation : float
            Minimum absolute correlation, or difference where differences were tested.
        n : int, optional
            Maximum number of pairs.
        sort_by : {"p_value", "shrunken"}
            ``"shrunken"``: largest absolute shrunken estimate of :meth:`shrink` first.

        Returns
        -------
        DataFrame
            Columns gene_a, gene_b, the pair variables and flag; with several types of features,
            also feature_type_a and feature_type_b.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> r.pairs(q=0.05, n=2)[["gene_a", "gene_b"]]
          gene_a gene_b
        0   FTH1    FTL
        1  RPS19  RPLP1
        """
        one_of("sort_by", sort_by, pairs.SORTINGS)
        number("q", q, 0, 1, optional=True)
        number("min_correlation", min_correlation, 0, 1)
        whole_number("n", n, optional=True)
        return tables.distinct_pairs(self.dataset, q, min_correlation, n, sort_by)

    def to_frame(self) -> pd.DataFrame:
        """Tabulate all pairs in the order of the genes.

        Returns
        -------
        DataFrame
            Indexed by gene if the result has a target, otherwise by ``gene_a`` and ``gene_b``;
            columns are the pair variables and ``flag``, and types of features as for :meth:`top`
            and :meth:`pairs`, which sort by evidence.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.ipsc_cycle()
        >>> r = hc.CSCore(adata, "donor", depth="depth", genes=20).fit()
        >>> r.to_frame().shape[0] == len(r) == 190
        True
        """
        return frames.to_frame(self.dataset)

    def to_table(
        self,
        path: str | Path,
        overwrite: bool = False,
        *,
        gene: str | None = None,
        q: float | None = None,
        min_correlation: float = 0.0,
        n: int | None = None,
        sort_by: str = "p_value",
        gene_ids: bool = False,
    ) -> Path:
        """Write the pairs as a table, strongest evidence first.

        Parameters
        ----------
        path : str or Path
            File ending in .csv, .tsv, .parquet or .xlsx; written whole or not at all.
        overwrite : bool
            Replace an existing file.
        gene : str, optional
            Only the partners of this gene. None: of the target, or all pairs.
        q, min_correlation, n, sort_by
            As for :meth:`pairs`.
        gene_ids : bool
            Add the ids of the genes, where a column of the data named them (``gene_names=``).

        Returns
        -------
        Path

        Raises
        ------
        InputError
            If the ending is unknown, there is no such folder, or Excel cannot hold so many rows.
        FileExistsError
            If the file exists and `overwrite` is False.

        Examples
        --------
        >>> import hiercorr as hc, pathlib, tempfile
        >>> adata = hc.datasets.ipsc_cycle()
        >>> r = hc.CSCore(adata, "donor", depth="depth", genes=20).fit()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     r.to_table(pathlib.Path(folder) / "pairs.csv", q=0.05).name
        'pairs.csv'
        """
        instance_of("path", path, (str, Path), "a path")
        true_or_false("overwrite", overwrite)
        path = Path(path)
        check_table_path(path, overwrite)
        number("q", q, 0, 1, optional=True)
        number("min_correlation", min_correlation, 0, 1)
        whole_number("n", n, optional=True)
        one_of("sort_by", sort_by, pairs.SORTINGS)
        text("gene", gene, optional=True)
        true_or_false("gene_ids", gene_ids)
        table = tables.selected(self.dataset, gene, q, n, sort_by, min_correlation)
        if gene_ids:
            table = tables.with_ids(table, tables.id_by_name(self.dataset))
        return write_table(table, path)

    @property
    def params(self) -> pd.Series:
        """Estimates of all pairs: correlations, or differences where differences were tested.

        In the order of :meth:`to_frame`, as :attr:`pvalues` and :meth:`conf_int`.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> round(float(r.params["FTH1"]), 2)
        0.65
        """
        return frames.column(self.dataset, pairs.effect_name(self.dataset.data_vars))

    @property
    def pvalues(self) -> pd.Series:
        """p-values of all pairs, in the order of :attr:`params`.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> bool(r.pvalues["FTH1"] < 0.001)
        True
        """
        return frames.column(self.dataset, "p_value")

    def conf_int(self) -> pd.DataFrame:
        """Return the confidence limits of all pairs, in the order of :attr:`params`.

        Returns
        -------
        DataFrame
            Columns ``lower`` and ``upper``, at the level of ``dataset.attrs["confidence"]``.

        Raises
        ------
        InputError
            If the result has no intervals.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.ipsc_cycle()
        >>> r = hc.CSCore(adata, "donor", depth="depth", genes=20).fit(target="CDK1")
        >>> limits = r.conf_int()
        >>> bool((limits["lower"] < limits["upper"]).all())
        True
        """
        return frames.conf_int(self.dataset)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return frames.n_pairs(self.dataset)

    __iter__ = None  # a result is no sequence, although it has a length

    def __bool__(self) -> bool:
        """Return True: a result is something, also without pairs."""
        return True

    def __getitem__(self, pair: tuple[str, str]) -> pd.Series:
        """Return all variables of one pair, e.g. ``r["CDK1", "TOP2A"]``."""
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise InputError(f"name two genes, as in r['CDK1', 'TOP2A'], not {pair!r}")
        return frames.one_pair(self.dataset, *pair)

    def matrix(self, variable: str = "correlation") -> pd.DataFrame:
        """Return one pair variable as a table of genes x partners, or target x genes.

        Parameters
        ----------
        variable : str
            Name of a pair variable.

        Returns
        -------
        DataFrame

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> m = r.matrix()
        >>> round(float(m.loc["FTL", "FTH1"]), 2), m.shape
        (0.65, (30, 30))
        """
        return tables.matrix(self.dataset, variable)

    def covariance(self) -> pd.DataFrame:
        r"""Compute the relative covariance of each pair; the diagonal is the relative variance.

        .. math:: \phi_{jk} = \frac{\operatorname{Cov}(z_j, z_k)}{\mu_j \mu_k}
                  = \rho_{jk}\sqrt{\phi_{jj}\phi_{kk}}

        of expression z without Poisson noise, from ``correlation_unclipped`` and
        ``overdispersion``. Computed on request and not stored. There is no interval: that of the
        correlation does not apply, because the variances are estimated as well. The p-value for no
        correlation is also the p-value for no covariance.

        Returns
        -------
        DataFrame
            Genes x partners, or targets x genes, as for :meth:`matrix`; NaN for genes without
            variance beyond counting noise.

        Raises
        ------
        InputError
            If the result has no ``overdispersion``, or has listed pairs.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> round(float(r.covariance().loc["FTL", "FTH1"]), 2)
        0.57
        """
        return tables.covariance(self.dataset)

    def prediction_interval(self, confidence: float = 0.95) -> xr.Dataset:
        r"""Predict the correlation of each pair in a new donor.

        .. math:: \hat\rho \pm z \sqrt{se^2 + \tau^2}

        with the posterior variance of the mean over donors and the posterior mean of the variance
        between them (``tau``), truncated at -1 and 1; NaN where ``tau`` is, for lack of counts. The
        interval is for the donor's correlation itself, without the sampling noise of its cells.

        Parameters
        ----------
        confidence : float
            Probability that a new donor's correlation lies inside.

        Returns
        -------
        xarray.Dataset
            ``prediction_lower`` and ``prediction_upper``, with the dimensions of ``correlation``.

        Raises
        ------
        InputError
            If the result is not that of ``fit(uncertainty="hierarchical")``.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 40, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> limits = r.prediction_interval()
        >>> bool((limits["prediction_lower"] <= r.dataset["ci_lower"]).mean() > 0.9)
        True
        """
        return pairs.prediction_interval(self.dataset, confidence)

    def gene_table(self) -> pd.DataFrame:
        """Tabulate the mean, overdispersion (with its interval), detection and flags of each gene.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> r.gene_table()["overdispersion"].round(2).head(2).to_dict()
        {'MT-RNR2': 0.53, 'SPP1': 2.07}
        """
        return tables.gene_table(self.dataset)

    def coefficients(self, term: str | None = None) -> pd.DataFrame:
        """Tabulate the regression coefficients (and contrasts) of a model with a formula.

        Those of a :class:`hiercorr.BayesianCorrelation` with ``correlation_formula=`` are of the
        Fisher z within samples of each pair of genes: differences of z between groups; with
        ``formula=`` too, those of the means are ``result.at("between").coefficients()``. Where each
        pair has its own posterior, those of a gene's log mean are listed once per partner; a joint
        fit has one of each gene.

        Parameters
        ----------
        term : str, optional
            Name of a coefficient or contrast: one row per gene or pair, strongest evidence first.
            None: all coefficients, indexed by coefficient and gene or pair.

        Returns
        -------
        DataFrame

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
        >>> r = hc.Pseudobulk(adata, "sample_id", formula="~ gender", **options).fit(target="FTL")
        >>> r.coefficients("FTL").columns.tolist()[:3]
        ['beta', 'beta_se', 'beta_statistic']
        """
        text("term", term, optional=True)
        return tables.coefficients(self.dataset, term)

    def contrasts(
        self, gene_a: str | None = None, gene_b: str | None = None, *, q: float | None = None
    ) -> pd.DataFrame:
        r"""Tabulate the differences of all pairs of groups, for each pair of genes.

        Of a result of ``differential(..., contrast="pairwise")``. ``adjusted_p_value`` is Holm's
        over the contrasts of one pair of genes. For a screen, the pairs of genes are selected by
        the overall test first: a contrast of a selected pair is ``significant`` if

        .. math:: p_\text{adjusted} \le q R / m

        with R selected pairs among m, which controls the expected proportion of selected pairs with
        any false statement at q (Heller et al. 2009).

        Parameters
        ----------
        gene_a, gene_b : str, optional
            A pair of genes, or one gene with all others; None: all pairs.
        q : float, optional
            Maximum ``q_value`` of the overall test; adds the column ``significant``.

        Returns
        -------
        DataFrame
            Columns gene_a, gene_b, contrast, difference, difference_lower, difference_upper,
            difference_se, p_value, adjusted_p_value and q_value, that of the overall test; pairs
            with the strongest evidence first.

        Raises
        ------
        InputError
            If the result has no contrasts of groups, or a gene is unknown.

        References
        ----------
        Heller, Manduchi, Grant & Ewens 2009, Bioinformatics 25:1019; Van den Berge et al. 2017,
        Genome Biology 18:151.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "block": "patient_id"}
        >>> r = hc.differential(adata, "sample_id", "condition", contrast="pairwise", **options)
        >>> r.contrasts("FTL", "FTH1")["contrast"].tolist()
        ['panobinostat - ctrl']
        """
        for name, gene in (("gene_a", gene_a), ("gene_b", gene_b)):
            text(name, gene, optional=True)
        number("q", q, 0, 1, optional=True)
        return tables.contrasts(self.dataset, gene_a, gene_b, q)

    def sample_table(self, gene_a: str | None = None, gene_b: str | None = None) -> pd.DataFrame:
        """Tabulate cells and sequencing depth per sample and, for a pair, its per-sample estimates.

        Parameters
        ----------
        gene_a, gene_b : str, optional
            A pair fitted with ``per_sample=True``, or by a Bayesian model with
            ``sd_per_sample=True``, which adds the correlation of expression within each sample and
            the standard deviations of log expression (``within_sd_a``, ``within_sd_b``); one gene
            suffices if the result has a target.

        Returns
        -------
        DataFrame

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> r.sample_table()["n_cells"].tolist()
        [500, 500, 500, 500, 500]
        """
        text("gene_a", gene_a, optional=True)
        text("gene_b", gene_b, optional=True)
        return tables.sample_table(self.dataset, gene_a, gene_b)

    def flag_counts(self) -> pd.Series:
        """Count the distinct pairs with each flag.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> int(r.flag_counts()["nonpositive_variance"])
        0
        """
        return tables.flag_counts(self.dataset)

    def summary(self, gene: str | None = None, n: int = 20) -> Summary:
        """Summarise the model and the pairs with the strongest evidence as text or HTML.

        Parameters
        ----------
        gene : str, optional
            Show the pairs of this gene only.
        n : int
            Number of pairs shown.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            ``print`` it, or display it in a notebook.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> print(str(r.summary(n=1)).splitlines()[2])
        Model:                         CSCore No. samples:            5
        """
        whole_number("n", n)
        from hiercorr.results.summary import make_summary  # loads statsmodels

        if gene is not None or self.target is not None:
            gene, _ = self._row(gene)
        table = self.top(gene, n) if gene is not None else self.pairs(n=n)
        scope = gene or layout.scope(self.dataset)
        return make_summary(self.dataset, self.flag_counts(), table, gene, scope)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the result to disk; a failed write leaves an existing file unchanged.

        Parameters
        ----------
        path : str or Path
            Name ending in ``.zarr`` (a folder) or ``.nc`` (netCDF-4).
        overwrite : bool
            Replace an existing file instead of raising an error.

        Returns
        -------
        Path

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = r.save(pathlib.Path(folder) / "FTL.zarr")
        ...     hc.load(path).target
        'FTL'
        """
        instance_of("path", path, (str, Path), "a path")
        true_or_false("overwrite", overwrite)
        return write_dataset(self.dataset, Path(path), overwrite)

    def to_anndata(self, adata: ad.AnnData, key: str = "hiercorr") -> ad.AnnData:
        """Copy the result's genes from `adata` and add the result to the copy.

        Pair variables go to ``varp[f"{key}_{variable}"]`` (with a target: to ``var``), gene
        variables to ``var[f"{key}_{variable}"]`` and attributes to ``uns[key]``. `adata` is not
        changed.

        Parameters
        ----------
        adata : AnnData
        key : str
            Prefix of the keys.

        Returns
        -------
        AnnData

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> r.to_anndata(adata).varp["hiercorr_correlation"].shape
        (30, 30)
        """
        text("key", key)
        if not hasattr(adata, "var_names"):
            raise InputError(f"adata must be an AnnData object, not {type(adata).__name__}")
        return exports.to_anndata(self.dataset, adata, key)

    def to_networkx(self, q: float | None = 0.05, min_correlation: float = 0.0) -> nx.Graph:
        """Build a graph of the pairs that pass the thresholds, with every gene as a node.

        Parameters
        ----------
        q : float or None
            Maximum ``q_value``; None: no threshold.
        min_correlation : float
            Minimum absolute correlation.

        Returns
        -------
        networkx.Graph
            Edge attributes are the pair variables; ``weight`` is the correlation.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> graph = r.to_networkx(q=0.05, min_correlation=0.5)
        >>> graph.has_edge("FTL", "FTH1")
        True
        """
        number("q", q, 0, 1, optional=True)
        number("min_correlation", min_correlation, 0, 1)
        return exports.to_networkx(self.dataset, q, min_correlation)

    def __repr__(self) -> str:
        a = self.dataset.attrs
        genes = n_of(len(self.genes), "gene")
        selected = selected_cells(a, 60)
        cells = f" ({selected})" if selected else ""
        donors = f" of {a['n_donors']} donors" if "n_donors" in a else ""
        scope = layout.scope(self.dataset)
        scope = f"{scope} x {genes}" if self.targets is not None else f"{genes}, {scope}"
        if "cell_type_a" in a:
            scope += f" ({a['cell_type_a']} x {a['cell_type_b']})"
        return (
            f"<CorrelationResult: {a.get('model', '?')}, level {a.get('level', '?')}, {scope}, "
            f"{a.get('n_samples', '?')} samples{donors}, {a.get('n_cells', '?')} cells{cells}, "
            f"uncertainty {a.get('uncertainty', '?')}, "
            f"{tables.missing(self.dataset)}>"
        )

    def _repr_html_(self) -> str:
        return self.summary(n=10)._repr_html_() + self.dataset._repr_html_()

    def _row(self, gene: str | None) -> tuple[str, xr.Dataset]:
        return pairs.row_of(self.dataset, gene)


def open_result(path: Path) -> CorrelationResult:
    """Open a result that was just written, and leave its values on disk."""
    return CorrelationResult(read_dataset(path, lazy=True))


_READABLE = ("1", "2")  # major versions of the schema


def load(path: str | Path, lazy: bool = False) -> CorrelationResult | CellTypes:
    """Read a result from ``save()`` or ``fit(out=...)``.

    Parameters
    ----------
    path : str or Path
        A ``.zarr`` folder or a ``.nc`` file.
    lazy : bool
        Leave the pair variables on disk and read only the parts needed, for results larger than
        memory.

    Returns
    -------
    CorrelationResult
        Or :class:`hiercorr.CellTypes`, as it was saved.

    Raises
    ------
    InputError
        If the result does not exist, is damaged, is no result or was written by a newer version of
        hiercorr.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
    >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     hc.load(r.save(pathlib.Path(folder) / "FTL.nc")).target
    'FTL'
    """
    instance_of("path", path, (str, Path), "a path")
    true_or_false("lazy", lazy)
    dataset = read_dataset(Path(path), lazy)
    version = str(dataset.attrs.get("schema_version", ""))
    if not version:
        raise InputError(
            f"{str(path)!r} is not a result of hiercorr: it has no schema_version. Counts are "
            "analysed by a model first, e.g. CSCore(data, sample).fit()"
        )
    if version.split(".")[0] not in _READABLE:
        writer = dataset.attrs.get("hiercorr_version", "unknown")
        raise InputError(
            f"{str(path)!r} has schema version {version or 'none'}; this hiercorr ({__version__}) "
            f"reads {SCHEMA_VERSION}: install the version that wrote it ({writer})"
        )
    try:
        return _as_result(_upgraded(dataset))
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}; compute it again, or undo the change") from error


def _as_result(dataset: xr.Dataset) -> CorrelationResult | CellTypes:
    """Return the result that a dataset from a file contains, unless it cannot be one."""
    found: CorrelationResult | CellTypes
    if "cell_type" in dataset.dims:
        from hiercorr.results.cell_types import CellTypes

        found = CellTypes.from_dataset(dataset)
        parts = [result.dataset for result in found.results.values()]
    else:
        found = CorrelationResult(dataset)
        parts = [found.dataset]
    attributes = (impossible_attribute(part) for part in parts)
    why = next(filter(None, attributes), None) or impossible_value(dataset)
    if why is not None:
        raise InputError(f"not a hiercorr result: the dataset {why}")
    return found


def _upgraded(dataset: xr.Dataset) -> xr.Dataset:
    """Add the attributes and the standard error that earlier schema versions did not have."""
    if "se" in dataset and str(dataset.attrs["schema_version"]).startswith("1."):
        # before 2.0 it was that of fisher_z
        known = {v: PAIR_VARIABLES[v] for v in ("se", "fisher_z_se")}
        dataset = dataset.rename(se="fisher_z_se")
        if "sd" not in dataset:
            r = dataset.get("correlation_unclipped", dataset["correlation"])
            se = dataset["fisher_z_se"]
            if se.variable._in_memory:
                dataset["se"] = (1 - r**2) * se
            else:
                dataset["se"] = xr.Variable(se.dims, lazily(DeltaError(r, se)))
        for name in known.keys() & dataset.keys():
            dataset[name].attrs = {"long_name": known[name], "units": "1"}
        # they could be narrower than the confidence interval
        dataset = dataset.drop_vars(
            [v for v in ("prediction_lower", "prediction_upper") if v in dataset]
        )
        dataset = dataset.assign_attrs(
            schema_version=SCHEMA_VERSION,
            estimand=dataset.attrs.get("estimand", estimand(dataset.attrs)) or "not recorded",
            genes=dataset.attrs.get("genes", "not recorded"),
        )
        if "p_value" in dataset:
            dataset.attrs.setdefault("interval", "written before 2.0: need not agree with p_value")
    if "q_value" not in dataset or "q_method" in dataset.attrs:
        return dataset
    # before 1.2 there was one procedure and one family
    family = "pairs of the target" if "target" in dataset.dims else "all distinct pairs"
    return dataset.assign_attrs(q_method="Benjamini-Hochberg", q_family=family)
