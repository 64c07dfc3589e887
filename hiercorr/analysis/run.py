"""``analyze``: from a file to a folder with report, tables, figures and results."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd

from hiercorr._version import __version__
from hiercorr.analysis.features import Features
from hiercorr.analysis.figures import Figure, figures
from hiercorr.analysis.findings import findings, not_done
from hiercorr.analysis.folder import Folder, name_of
from hiercorr.analysis.plan import Plan, as_toml, make_plan, read_plan
from hiercorr.analysis.steps import FITS, Part, Steps, attempt, follow
from hiercorr.analysis.tables import tables
from hiercorr.analysis.units import Units, check_columns, choose_units
from hiercorr.counts.multimodal import is_mudata
from hiercorr.counts.names import FeatureNames
from hiercorr.counts.sources import DataSource
from hiercorr.counts.validate import subset_mask
from hiercorr.errors import DataWarning, InputError, instance_of, true_or_false
from hiercorr.plotting.look import figure_style
from hiercorr.reporting.methods_text import methods_text
from hiercorr.reporting.references import bibtex
from hiercorr.reporting.report import report, session_versions, write_report
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.files import write_text
from hiercorr.runtime.log import LOG
from hiercorr.runtime.user_warnings import warn


@dataclass(frozen=True)
class Analysis:
    """What :func:`analyze` found and wrote.

    Attributes
    ----------
    folder : Path
        Folder with ``report.html``, ``tables``, ``figures``, ``results``, ``analysis.toml``,
        ``methods.md`` and ``references.bib``.
    plan : Plan
        Options, with defaults.
    choices : list of str
        What was chosen for the user, in sentences.
    parts : list of Part
        Results for each cell type and target: ``results``, ``evidence``, ``design``, ``traps``,
        ``enrichment`` and ``skipped``.
    findings : list of str
        Key findings.
    """

    folder: Path
    plan: Plan
    choices: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> CorrelationResult:
        """Return a result of an analysis of one target in one cell type, e.g. ``"within"``."""
        if len(self.parts) != 1:
            raise InputError(
                f"the analysis has {len(self.parts)} parts (cell types x targets): use "
                f"parts[0].results[{name!r}]"
            )
        return self.parts[0].results[name]

    def __str__(self) -> str:
        lines = [*self.choices, *self.findings, f"Report: {self.folder / 'report.html'}"]
        return "\n".join(lines)

    __repr__ = __str__


def analyze(
    data: ad.AnnData | str | Path,
    output: str | Path,
    *,
    sample: str | None = None,
    target: str | Sequence[str] | None = None,
    cell_type: Mapping[str, str | Sequence[str]] | None = None,
    subset: Mapping[str, Any] | None = None,
    condition: str | Sequence[str] | None = None,
    block: str | None = None,
    formula: str | None = None,
    covariates: str | None = None,
    genes: int | Sequence[str] | None = None,
    layer: str | None = None,
    depth: str | Mapping[str, str] | None = None,
    gene_names: str | None = None,
    modalities: str | Sequence[str] | None = None,
    min_cells: int | None = None,
    sets: str | Path | None = None,
    q: float | None = None,
    seed: int | None = None,
    title: str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Analysis:
    """Analyse the partners of a gene in a cell type, and write everything a paper needs.

    The steps are: check of the design, traps of cell-level correlation, correlation within samples
    (:class:`hiercorr.CSCore`), correlation between samples (:class:`hiercorr.Pseudobulk`), evidence
    at both levels (:func:`hiercorr.evidence`), enrichment of gene sets, differences between
    conditions (:func:`hiercorr.differential`), figures, tables and a report. What the data do not
    allow is left out and named, with the reason, in ``findings`` and in the report.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`; or the ``analysis.toml`` of
        an earlier analysis, which is repeated, with options given here instead of its own.
    output : str or Path
        Folder, new or empty, or that of the same analysis, which is then completed.
    sample : str
        Column of ``obs`` with the donor or sample of each cell: the unit that counts.
    target : str or list of str
        Gene whose partners are asked for; several: an analysis of each.
    cell_type : mapping, optional
        Column of ``obs`` -> label or labels, e.g. ``{"cell_type": ["B cells", "NK cells"]}``: an
        analysis of each. None: all cells selected by `subset` are taken together.
    subset : mapping, optional
        Columns of ``obs`` -> label or labels: restricts all analyses to these cells.
    condition : str or list of str, optional
        Columns whose groups are compared. A condition that varies within `sample` is compared
        within it: samples are then the combinations of both, and `sample` is the unit.
    block : str, optional
        Column with the donor of each sample, if donors have several samples.
    formula : str, optional
        Covariates of samples, e.g. ``"~ sex + age"``; conditions are added.
    covariates : str, optional
        Covariates of cells within samples, e.g. ``"~ percent_mito"``.
    genes : int or list of str, optional
        Number of genes with the highest mean, or names. None: all.
    layer, depth, gene_names, min_cells
        As for :class:`hiercorr.CSCore`; `depth` is a column, or columns by type of features.
    modalities : str or list of str, optional
        Types of features to analyse with their own depths, as for :class:`hiercorr.CSCore`: the
        target and its partners may be antibodies or peaks. The check of the design, traps,
        cell-level correlation and gene sets remain those of genes.
    sets : str or Path
        Gene sets: ``"hallmark"`` (default), a GMT file, or ``"none"``: no enrichment.
    q : float
        Threshold of the q-values (0.05).
    seed : int
        Seed of permutations (0).
    title : str, optional
        Title of the report.
    overwrite : bool
        Replace the folder of another analysis.
    progress : bool, optional
        Print the steps and the time left. None: in a terminal.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If the data or options cannot be used, or the folder holds something else.

    Examples
    --------
    >>> import hiercorr as hc, tempfile, pathlib
    >>> adata = hc.datasets.glioblastoma()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = hc.analyze(adata, pathlib.Path(folder) / "ftl", sample="sample_id",
    ...         target="FTL", subset={"condition": "ctrl"}, depth="total_counts", genes=60)
    ...     sorted(p.name for p in found.folder.iterdir())[:3]
    ['analysis.toml', 'figures', 'methods.md']
    >>> found["within"].target
    'FTL'
    """
    instance_of("output", output, (str, Path), "a path")
    true_or_false("overwrite", overwrite)
    true_or_false("progress", progress, optional=True)
    given: dict[str, Any] = {
        "sample": sample,
        "target": target,
        "cell_type": cell_type,
        "subset": subset,
        "condition": condition,
        "block": block,
        "formula": formula,
        "covariates": covariates,
        "genes": genes,
        "layer": layer,
        "depth": depth,
        "gene_names": gene_names,
        "modalities": modalities,
        "min_cells": min_cells,
        "sets": sets,
        "q": q,
        "seed": seed,
        "title": title,
    }
    options = {k: v for k, v in given.items() if v is not None}
    data, options, earlier = _from_file(data, options)
    plan = make_plan(options)
    with DataSource(data, plan.layer, plan.gene_names).open() as source:
        features, source = Features.of(source, plan)
        obs, names, size = source.obs, source.names, source.shape
    plan = replace(plan, target=_named(plan.target, names, "target"))
    if isinstance(plan.genes, list):
        plan = replace(plan, genes=_named(plan.genes, names, "genes"))
    check_columns(plan, obs)
    kinds = {kind: obs[subset_mask(obs, plan.cells(kind))] for kind in plan.types()}
    units = {kind: choose_units(plan, cells) for kind, cells in kinds.items()}
    described = _described(data, size)
    _warn_of_other_data(earlier, described)
    reports = [_report_name(part, _single(plan)) for part in _parts(plan)]
    folder = Folder(output, as_toml(plan, described, {}), overwrite, reports)
    try:
        said = _Said(progress, len(kinds) * len(plan.target))
        said.begin([len(obs) for obs in kinds.values()], size[1], plan)
        return _analyze(data, plan, units, features, folder, described, said)
    finally:
        folder.close()


def _named(genes: Sequence[str], names: FeatureNames, option: str) -> list[str]:
    """Return the names of genes that are given by their names or ids."""
    found = [names.named(gene) for gene in genes]
    for gene in found:
        if gene not in names.genes:
            raise names.unknown(f"gene ({option})", gene)
    return list(dict.fromkeys(found))


def _from_file(data: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return data and options, from an ``analysis.toml`` where `data` is one."""
    if not isinstance(data, str | Path) or Path(data).suffix.lower() != ".toml":
        return data, options, {}
    earlier, described = read_plan(Path(data))
    path = described.get("path")
    if not path:
        raise InputError(
            f"{Path(data).name} is of data in memory: call analyze(adata, ...) with the options in "
            "its table [analysis]"
        )
    return path, {**earlier, **options}, described


def _described(data: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Describe the data so that others, or others of the same name, are noticed."""
    counted = {"n_cells": int(size[0]), "n_genes": int(size[1])}
    if isinstance(data, str | Path):
        path = Path(data).resolve()
        of_file = {"bytes": path.stat().st_size} if path.is_file() else {}
        return {"path": str(path), **counted, **of_file}
    names = pd.util.hash_pandas_object(data.obs_names.to_series()).sum()
    matrices = [part.X for part in data.mod.values()] if is_mudata(data) else [data.X]
    total = sum(float(x.sum()) for x in matrices if hasattr(x, "sum"))
    return {**counted, "digest": f"{int(names) % 2**32:08x}-{total:.10g}"}


def _warn_of_other_data(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in ("n_cells", "n_genes", "bytes"):
        if name in earlier and earlier[name] != now.get(name):
            warn(
                f"the data are not those of the earlier analysis: {name} was {earlier[name]} and "
                f"is {now.get(name)}",
                DataWarning,
            )
            return


# Two cores, as measured: figures and report; values of the matrix, a tenth of them not 0
_SECONDS, _PER_VALUE, _FIRST = 10, 3e-7, 20


class _Said:
    """Progress by step, with the time left."""

    def __init__(self, show: bool | None, parts: int) -> None:
        self.show = sys.stderr.isatty() if show is None else show
        self.parts, self.done, self.start = parts, 0, time.monotonic()

    def begin(self, cells: Sequence[int], genes: int, plan: Plan) -> None:
        """Announce the work and its approximate time."""
        genes = min(genes, plan.genes) if isinstance(plan.genes, int) else genes
        values = sum(cells) * genes * len(plan.target)
        seconds = (_SECONDS * self.parts + values * _PER_VALUE) * (1 + 0.5 * len(plan.condition))
        analyses = "1 analysis" if self.parts == 1 else f"{self.parts} analyses"
        size, about = f"{sum(cells):,} cells x {genes:,} genes", _duration(seconds)
        self._line(
            f"{analyses} of {size}: about {about}, and {_FIRST} s more the first time in an "
            "environment"
        )

    def step(self, part: Part, name: str) -> None:
        """Say that a step begins."""
        of = ", ".join(filter(None, (part.cell_type, part.target)))
        self._line(f"{of}: {name}")

    def part_is_done(self) -> None:
        """Say how long the remaining parts will take."""
        self.done += 1
        left = self.parts - self.done
        if left:
            seconds = (time.monotonic() - self.start) / self.done * left
            self._line(f"{self.done} of {self.parts} done, about {_duration(seconds)} left")

    def _line(self, text: str) -> None:
        LOG.info(text)
        if self.show and not LOG.isEnabledFor(logging.INFO):
            sys.stderr.write(f"{text}\n")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _analyze(
    data: Any,
    plan: Plan,
    units: Mapping[str | None, Units],
    features: Features,
    folder: Folder,
    described: dict[str, Any],
    said: _Said,
) -> Analysis:
    versions = {"hiercorr": __version__, **session_versions()}
    write_text(folder.path / "analysis.toml", as_toml(plan, described, versions))
    everywhere = _choices(plan)
    parts, sentences, made = [], [], {}
    of_parts: dict[str, list[str]] = {}
    for cell_type in plan.types():
        steps = Steps(data, plan, units[cell_type], features, cell_type)
        choices = [*units[cell_type].choices, *everywhere]
        for target in plan.target:
            part = _compute(Part(cell_type, target), steps, folder, said)
            said.step(part, "figures and report")
            found = findings(part, plan)
            made.update(tables(part))
            drawn = figures(part, data, plan, units[cell_type], features)
            if part.results or not _single(plan):
                _write(part, plan, drawn, folder, found, choices)
            parts.append(part)
            of_parts[part.heading] = found
            head = "" if _single(plan) else f"{', '.join(filter(None, (cell_type, target)))}: "
            sentences += [head + sentence for sentence in found]
            said.part_is_done()
    if not any(part.results for part in parts):
        why = "; ".join(dict.fromkeys(part.skipped["within"] for part in parts))
        raise InputError(f"no correlation could be estimated: {why}")
    choices = list(dict.fromkeys(c for u in units.values() for c in u.choices)) + everywhere
    folder.write_tables(made)
    _write_texts(parts, folder)
    if not _single(plan):
        _write_overview(parts, plan, folder, choices, of_parts)
    return Analysis(folder.path, plan, choices, parts, sentences)


def _parts(plan: Plan) -> list[Part]:
    return [Part(cell_type, target) for cell_type in plan.types() for target in plan.target]


def _single(plan: Plan) -> bool:
    return len(plan.types()) * len(plan.target) == 1


def _choices(plan: Plan) -> list[str]:
    """State what follows from options that were not given."""
    out = []
    if plan.gene_names is not None:
        out.append(f"Genes are named by the column {plan.gene_names!r} of var.")
    tested = "q-values count all that could be tested."
    if plan.genes is None:
        out.append(f"All genes are analysed; {tested}")
    elif isinstance(plan.genes, int):
        out.append(f"The {plan.genes:,} genes with the highest means are analysed; {tested}")
    else:
        out.append(f"{len(plan.genes):,} chosen genes are analysed; {tested}")
    if plan.modalities is not None:
        out.append("Every type of features has its own sequencing depth.")
    elif plan.depth is None:
        out.append("Sequencing depth is the sum of the counts of each cell.")
    if plan.covariates is None:
        out.append("Cells are not adjusted for covariates.")
    return out


def _compute(part: Part, steps: Steps, folder: Folder, said: _Said) -> Part:
    """Take the steps of one part; results that are in the folder are loaded."""

    def design() -> None:
        part.design = steps.design()

    def cells_as_units() -> None:
        part.traps = steps.traps(part.target)

    for name, step in (("design", design), ("traps", cells_as_units)):
        said.step(part, name)
        attempt(part, name, step)
    differences = [f"differential_{c}" for c in steps.plan.condition]
    for name in (*FITS, *differences):
        said.step(part, name.replace("_", " by "))
        found = folder.saved(part, name)
        if found is None:

            def fit(name: str = name) -> None:
                part.results[name] = steps.fit(name, part.target)
                folder.save(part, name, part.results[name])

            attempt(part, name, fit)
        else:
            part.results[name] = found
    said.step(part, "evidence and gene sets")
    follow(part, steps.plan)
    return part


def _write(
    part: Part,
    plan: Plan,
    shown: Mapping[str, Figure],
    folder: Folder,
    found: list[str],
    choices: list[str],
) -> None:
    """Draw the figures of a part and write its report, which shows the same figures."""
    import matplotlib.pyplot as plt

    ready: dict[tuple[int, str], Any] = {}
    others: dict[str, Any] = {}
    drawn = []
    single = _single(plan)
    for name, each in shown.items():

        def add(name: str = name, each: Figure = each) -> None:
            with figure_style("paper", each.width):
                figure = each.draw()
                figure = getattr(figure, "figure", figure)
                drawn.append(figure)
                folder.write_figure(name_of(part, name), figure)
            if each.shows:
                ready[id(each.shows[0]), each.shows[1]] = figure
            else:
                others[each.caption] = figure

        step = f"figure {name!r}"
        attempt(part, step, add)
        if step in part.skipped:
            found.append(not_done(step, part.skipped[step]))
    write_report(
        folder.path / _report_name(part, single),
        *part.results.values(),
        design=part.design,
        traps=part.traps,
        evidence=part.evidence,
        enrichment=part.enrichment or None,
        figures=others,
        findings=found,
        choices=choices,
        links={} if single else {"Overview of all parts": "report.html"},
        gene=None,
        n=500,
        title=plan.title if single and plan.title else part.heading,
        language="en",
        ready=ready,
    )
    for figure in drawn:
        plt.close(figure)


def _report_name(part: Part, single: bool) -> str:
    return "report.html" if single else f"{name_of(part, 'report')}.html"


def _write_texts(parts: Sequence[Part], folder: Folder) -> None:
    """Write the Methods paragraphs and the references for the models that were fitted."""
    texts: list[str] = []
    for part in parts:
        described = [*part.results.values(), *part.enrichment.values()]
        texts += [methods_text(d) for d in described]
        texts += [] if part.evidence is None else [methods_text(part.evidence)]
    unique = list(dict.fromkeys(texts))
    write_text(folder.path / "methods.md", "# Methods\n\n" + "\n\n".join(unique) + "\n")
    write_text(folder.path / "references.bib", bibtex(unique))


def _write_overview(
    parts: Sequence[Part],
    plan: Plan,
    folder: Folder,
    choices: Sequence[str],
    found: dict[str, list[str]],
) -> None:
    """Write ``report.html`` of several parts: the findings of all, and links to their reports."""
    links = {part.heading: _report_name(part, single=False) for part in parts}
    report(
        folder.path / "report.html",
        findings=found,
        choices=choices,
        links=links,
        title=plan.title or f"Partners of {', '.join(plan.target)}",
    )
