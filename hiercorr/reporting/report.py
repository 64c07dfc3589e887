"""Reports: results as one self-contained HTML file."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hiercorr.counts.names import name_of
from hiercorr.counts.selection import selected_cells
from hiercorr.errors import (
    InputError,
    instance_of,
    one_of,
    text,
    unknown_name,
    whole_number,
)
from hiercorr.exploratory.traps import Traps
from hiercorr.interpretation.evidence import Evidence
from hiercorr.planning.check import DesignCheck, proportion
from hiercorr.plotting.look import figure_style
from hiercorr.plotting.style import freeze, save
from hiercorr.reporting.methods_text import MODELS, Described, methods_text
from hiercorr.reporting.references import cited
from hiercorr.reporting.translations import LANGUAGES, translate, translate_cell
from hiercorr.results.cell_types import CellTypes
from hiercorr.results.layout import has_all_pairs, of_modules, scope
from hiercorr.results.pairs import first_estimated, ids_of
from hiercorr.results.result import CorrelationResult
from hiercorr.results.tables import missing
from hiercorr.results.text import P_VALUES, small_number
from hiercorr.runtime.files import check_place, write_text
from hiercorr.runtime.optional import optional
from hiercorr.runtime.user_warnings import warn

_HEATMAP_GENES = 300
_RANKED = 25  # partners
_COLUMN = 89 / 25.4  # inches
_BOUNDED = ("correlation", "lower", "upper", "correlation_unclipped", "difference")
_PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "xarray",
    "anndata",
    "numba",
    "statsmodels",
    "formulaic",
    "matplotlib",
    "gseapy",
)


# Figures that were drawn before, by the identity of what they show and the name of the plot.
Ready = Mapping[tuple[int, str], Any]


def report(
    path: str | Path,
    *results: CorrelationResult | CellTypes,
    design: DesignCheck | None = None,
    traps: Traps | None = None,
    evidence: Evidence | None = None,
    enrichment: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    figures: Mapping[str, Any] | None = None,
    findings: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    choices: Sequence[str] | None = None,
    links: Mapping[str, str] | None = None,
    gene: str | None = None,
    n: int = 500,
    title: str | None = None,
    language: str = "en",
) -> Path:
    """Write results, plots, methods and provenance as one HTML file.

    Parameters
    ----------
    path : str or Path
        Name of the file, ending in .html. It is written atomically and replaces an earlier report.
    *results : CorrelationResult or CellTypes
        Results, each with a section and a table that can be sorted and searched; of several cell
        types, one section each.
    design : DesignCheck, optional
        Check of the design.
    traps : Traps, optional
        Traps of cell-level correlation.
    evidence : Evidence, optional
        Evidence within and between samples.
    enrichment : DataFrame or mapping of DataFrame, optional
        Tables of :func:`hiercorr.enrichment.enrich` or :func:`hiercorr.enrichment.gsea`, or a
        mapping from captions to tables.
    figures : mapping, optional
        Mapping from captions to further matplotlib Figures or Axes.
    findings : sequence of str or mapping, optional
        Sentences of the first section, e.g. those of :func:`hiercorr.analyze`; a mapping from
        headings to sentences for several analyses.
    choices : sequence of str, optional
        Sentences on choices that were made for the reader, below the findings.
    links : mapping, optional
        Further reports: text -> relative path; a text that is a heading of `findings` is linked
        there.
    gene : str, optional
        Gene whose partners are shown for results of all pairs. None: the pairs with the strongest
        evidence.
    n : int
        Maximum number of rows per table.
    title : str, optional
        Title of the report. None: the target, or the title of the first result.
    language : {"en", "zh"}
        Language of headings, captions and column names; the Methods section is always in English.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If there is nothing to report, the folder does not exist or the language is unknown.

    Examples
    --------
    >>> import hiercorr as hc, tempfile, pathlib
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "patient_id", genes=20, depth="total_counts").fit(target="FTL")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     hc.report(pathlib.Path(folder) / "r.html", r).stat().st_size > 10_000
    True
    """
    return write_report(
        path,
        *results,
        design=design,
        traps=traps,
        evidence=evidence,
        enrichment=enrichment,
        figures=figures,
        findings=findings,
        choices=choices,
        links=links,
        gene=gene,
        n=n,
        title=title,
        language=language,
        ready={},
    )


def write_report(
    path: str | Path,
    *results: CorrelationResult | CellTypes,
    design: DesignCheck | None,
    traps: Traps | None,
    evidence: Evidence | None,
    enrichment: pd.DataFrame | Mapping[str, pd.DataFrame] | None,
    figures: Mapping[str, Any] | None,
    findings: Sequence[str] | Mapping[str, Sequence[str]] | None,
    choices: Sequence[str] | None,
    links: Mapping[str, str] | None,
    gene: str | None,
    n: int,
    title: str | None,
    language: str,
    ready: Ready,
) -> Path:
    """Write a report, of which some figures may have been drawn already; see :func:`report`."""
    _check(path, results, design, traps, evidence)
    shown = [part for result in results for part in _parts(result)]
    instance_of(
        "enrichment", enrichment, (pd.DataFrame, Mapping), "a table or tables by name", True
    )
    instance_of("figures", figures, Mapping, "figures by caption", optional=True)
    for name, value in (("gene", gene), ("title", title)):
        text(name, value, optional=True)
    whole_number("n", n)
    kinds = (list, tuple, Mapping)
    instance_of("findings", findings, kinds, "a list of sentences, or lists by heading", True)
    instance_of("choices", choices, (list, tuple), "a list of sentences", optional=True)
    instance_of("links", links, Mapping, "paths by text", optional=True)
    if not results and not any((design, traps, findings)) and evidence is None:
        raise InputError(
            "there is nothing to report: pass a result, a design check, traps, evidence or findings"
        )
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"the report is HTML: path={str(path)!r} must end in .html; a browser can print it as "
            "PDF"
        )
    check_place(Path(path))
    known = {name for result in shown for name in result.genes}
    for result in shown:
        gene = name_of(gene, result.genes, ids_of(result.dataset))
    if gene is not None and results and gene not in known:
        raise unknown_name("gene", gene, sorted(known))
    one_of("language", language, LANGUAGES)
    template = _template(language)
    tables = {"": enrichment} if isinstance(enrichment, pd.DataFrame) else dict(enrichment or {})
    sections = []
    if findings or links:
        sections.append(_findings_section(findings or [], links or {}))
    if choices:
        sections.append(_Section("choices", "Choices", items=list(choices)))
    if design is not None:
        sections.append(_design_section(design))
    if traps is not None:
        sections.append(_traps_section(traps, ready))
    if evidence is not None:
        sections.append(_evidence_section(evidence, n, ready))
    names = _headings(shown)
    sections += [_result_section(k, r, names[k], gene, n, ready) for k, r in enumerate(shown)]
    if tables:
        sections.append(_enrichment_section(tables, n))
    if figures:
        extra = [_figure(f, caption, close=False) for caption, f in figures.items()]
        sections.append(_Section("figures", "Figures", figures=extra))
    described = [*results, *([] if evidence is None else [evidence]), *tables.values()]
    if described:
        sections.append(_methods_section(described))
    sections.append(_provenance_section(shown, names))
    heading = title or (_about(evidence, shown) if evidence else [*names, "hiercorr"][0])
    created = shown[0].dataset.attrs.get("created", "") if shown else ""
    html = template.render(
        title=heading,
        language=language,
        sections=sections,
        footer=f"hiercorr {_version('hiercorr')}, {created}",
    )
    return write_text(Path(path), html)


def _check(path: object, results: Any, design: object, traps: object, evidence: object) -> None:
    """Raise an error for a part of the report of a wrong type."""
    if isinstance(path, CorrelationResult | CellTypes):
        raise InputError("the path of the report comes first: report('report.html', result)")
    instance_of("path", path, (str, Path), "a path")
    for result in results:
        kinds = (CorrelationResult, CellTypes)
        instance_of("results", result, kinds, "CorrelationResult or CellTypes objects")
    instance_of("design", design, DesignCheck, "the output of check_design", optional=True)
    instance_of("traps", traps, Traps, "the output of traps", optional=True)
    instance_of("evidence", evidence, Evidence, "the output of evidence", optional=True)


def _parts(result: CorrelationResult | CellTypes) -> list[CorrelationResult]:
    return list(result.values()) if isinstance(result, CellTypes) else [result]


def _template(language: str) -> Any:
    jinja2 = optional("jinja2", "reports")
    optional("matplotlib", "reports")
    text = (resources.files("hiercorr") / "_templates" / "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.filters["translated"] = partial(translate, language=language)
    environment.filters["translated_cell"] = partial(translate_cell, language=language)
    return environment.from_string(text)


@dataclass
class _Section:
    """Text, tables and figures under one heading."""

    id: str
    title: str
    text: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    groups: list[dict[str, Any]] = field(default_factory=list)
    exploratory: bool = False


def _table(
    name: str, table: pd.DataFrame, caption: str = "", search: bool = True
) -> dict[str, Any]:
    table = table.loc[:, table.notna().any() | (len(table) == 0)]
    names = [str(table.index.name or ""), *map(str, table.columns)]
    heads = [{"name": c, "shown": c.replace("_", " ")} for c in names]
    records = zip(table.index, table.to_dict("records"), strict=True)
    rows = [[_cell(i), *(_cell(v, str(c)) for c, v in row.items())] for i, row in records]
    return {"id": name, "caption": caption, "heads": heads, "rows": rows, "search": search}


def _cell(value: Any, column: str = "") -> dict[str, Any]:
    if isinstance(value, bool | np.bool_):
        return {"shown": "yes" if value else "no", "value": str(bool(value)), "text": True}
    if isinstance(value, int | np.integer):
        return {"shown": f"{value:,}", "value": int(value), "text": False}
    if isinstance(value, float | np.floating):
        number = float(value)
        if not np.isfinite(number):
            return {"shown": "", "value": "", "text": False}
        return {"shown": _formatted(number, column), "value": repr(number), "text": False}
    return {"shown": "" if value is None else str(value), "value": str(value), "text": True}


def _formatted(number: float, column: str) -> str:
    """Format a number with as many digits as a reader needs."""
    if number == 0 and column.endswith(P_VALUES):
        return small_number(number)
    bounded = column.endswith(_BOUNDED)
    if bounded and abs(number) <= 2:
        return f"{number:.2f}"
    if abs(number) < 1e-3 and number:
        return f"{number:.1e}"
    if number == round(number) or abs(number) >= 1000:
        return f"{number:,.0f}"
    if column.endswith(P_VALUES):
        return f"{number:.2f}" if number >= 0.1 else f"{number:#.2g}"
    if abs(number) >= 10:
        return f"{number:.1f}" if abs(number) < 100 else f"{number:.0f}"
    return f"{number:.2f}" if abs(number) >= 0.1 else f"{number:#.2g}"


def _figure(figure: Any, caption: str, close: bool = True) -> dict[str, Any]:
    figure = getattr(figure, "figure", figure)
    width, height = figure.get_size_inches()
    freeze(figure)
    buffer = io.BytesIO()
    save(figure, buffer, "svg", dpi=150)
    if close:
        import matplotlib.pyplot as plt

        plt.close(figure)
    return {
        "caption": caption,
        "data": base64.b64encode(buffer.getvalue()).decode(),
        "wide": width > 1.6 * _COLUMN,
        "width": round(96 * width),
        "height": round(96 * height),
    }


def _design_section(design: DesignCheck) -> _Section:
    f, selected = design.facts, selected_cells(design.samples.attrs)
    text = [
        f"{f['n_samples']:,.0f} samples, {f['n_cells']:,.0f} cells"
        f"{f' ({selected})' if selected else ''}, {f['n_genes']:,.0f} genes. "
        f"{proportion(f['variance_share'])} of the variance of expression is between samples "
        f"(median gene), which corresponds to a design effect of {f['design_effect']:,.1f}: a mean "
        f"over {f['n_cells']:,.0f} cells is as precise as one over {f['effective_cells']:,.0f} "
        "independent cells.",
        f"Recommendation: {design.recommendation}.",
    ]
    tables = [
        _table(
            "conditions",
            design.conditions_said().rename(columns={"holds": "met", "why": "reason"}),
            "Criteria for a pseudobulk analysis (recommended if two or more are met)",
            search=False,
        ),
        _table("samples", design.samples, "Samples"),
    ]
    if design.groups is not None:
        tables.append(_table("groups", design.groups, "Cells per sample and cell type"))
    items = [f"{line[0].upper()}{line[1:]}." for line in (*design.reasons, *design.problems)]
    return _Section("design", "Design", text, items, tables)


def _findings_section(
    findings: Sequence[str] | Mapping[str, Sequence[str]], links: Mapping[str, str]
) -> _Section:
    """List findings, those of several analyses under headings with links to their reports."""
    section = _Section("findings", "Key findings")
    if not isinstance(findings, Mapping):
        section.items, section.links = list(findings), dict(links)
        return section
    for heading, sentences in findings.items():
        group = {"heading": heading, "items": list(sentences), "link": links.get(heading, "")}
        section.groups.append(group)
    section.links = {k: v for k, v in links.items() if k not in findings}
    return section


def _traps_section(traps: Traps, ready: Ready) -> _Section:
    head, *lines = str(traps).splitlines()
    caption = "Dropout, sequencing depth and pseudoreplication"
    figures = _drawn(traps, {"traps": (caption, traps.plot)}, ready, "double")
    title = "Traps of cell-level correlation"
    items = [f"{line[0].upper()}{line[1:]}." for line in lines]
    return _Section("traps", title, [f"{head}."], items, figures=figures)


def _enrichment_section(tables: Mapping[str, pd.DataFrame], n: int) -> _Section:
    shown = [
        _table(f"enrichment{k}", t.head(n), caption)
        for k, (caption, t) in enumerate(tables.items())
    ]
    return _Section("enrichment", "Enrichment", tables=shown)


def _evidence_section(evidence: Evidence, n: int, ready: Ready) -> _Section:
    from hiercorr import plotting

    counts: dict[str, int] = evidence.counts().to_dict()
    what = f"Partners of {evidence.target}" if evidence.target else _capital(evidence.scope)
    text = [
        f"{what} at q < {evidence.q:g}: "
        + ", ".join(f"{k} {name}" for name, k in counts.items())
        + ". A correlation that is significant at one level only may still exist at the other: "
        "see its confidence interval there."
    ]
    columns = [c for c in evidence.table.columns if c not in ("sign_agreement", "within_tau2")]
    first = ["evidence", *(c for c in columns if c != "evidence")]
    table = evidence.table[first].assign(evidence=evidence.table["evidence"].astype(str))
    if evidence.target is None:
        table = table.reset_index().set_index("gene_a")
    plots = {
        "levels": ("Correlation within and between samples", partial(plotting.levels, evidence))
    }
    figures = _drawn(evidence, plots, ready)
    return _Section(
        "evidence",
        "Evidence at two levels",
        text,
        tables=[_table("evidence-table", table.head(n))],
        figures=figures,
    )


def _drawn(
    owner: object, plots: Mapping[str, tuple[str, Any]], ready: Ready, width: str = "single"
) -> list[dict[str, Any]]:
    """Draw the plots that have data and are not ready, with a warning for those without data."""
    out = []
    for name, (caption, draw) in plots.items():
        if (figure := ready.get((id(owner), name))) is not None:
            out.append(_figure(figure, caption, close=False))
            continue
        try:
            with figure_style("paper", width):
                out.append(_figure(draw(), caption))
        except InputError as error:
            warn(f"no plot {caption!r}: {error}", UserWarning)
    return out


def _result_section(
    number: int,
    result: CorrelationResult,
    heading: str,
    gene: str | None,
    n: int,
    ready: Ready,
) -> _Section:
    a = result.dataset.attrs
    named = result.target or (gene if gene is not None and gene in result.genes else None)
    table = result.top(named, n) if named else result.pairs(n=n).set_index("gene_a")
    total = len(result.genes) - 1 if named else None
    flags = result.flag_counts()
    flags = flags[flags > 0]
    plot = result.plot
    tested = "p_value" in result.dataset and bool(result.dataset["p_value"].notnull().any())
    plots: dict[str, tuple[str, Any]] = {}
    if named:
        plots["ranked"] = (f"Partners of {named}", lambda: plot.ranked(named, n=_RANKED))
        if "lfsr" in table:
            shrunken = partial(plot.ranked, named, _RANKED, shrunken=True)
            plots["shrunken"] = ("Largest shrunken estimates", shrunken)
        if tested:
            plots["volcano"] = ("Volcano plot", lambda: plot.volcano(named))
        strongest = first_estimated(table)
        if "sample_correlation" in result.dataset and strongest is not None:
            pair = (strongest,) if result.target else (named, strongest)
            caption = f"{named} and {strongest} in each sample"
            plots["forest"] = (caption, lambda: plot.forest(*pair))
            plots["strip"] = ("Strongest partners in each sample", lambda: plot.strip(named))
    if has_all_pairs(result.dataset):
        heatmap = partial(plot.heatmap, max_genes=_HEATMAP_GENES)
        plots["heatmap"] = ("Clustered correlations", heatmap)
    if tested:
        plots["p_histogram"] = ("Distribution of p-values", plot.p_histogram)
        plots["qq"] = ("QQ plot", plot.qq)
    plots["diagnostics"] = ("Diagnostics: detection and flags", plot.diagnostics)
    limit = "" if total is None or total <= n else f" The first {n} of {total:,} are shown."
    text = [_summary(result) + limit, *([str(a["note"])] if a.get("note") else [])]
    tables = [
        _table(
            f"result{number}",
            table,
            f"Partners of {named}" if named else "Pairs, strongest evidence first",
        )
    ]
    if len(flags):
        tables.append(_table(f"flags{number}", flags.to_frame(), "Flags", search=False))
    tables.append(_table(f"samples{number}", result.sample_table(), "Samples", search=False))
    return _Section(
        f"result-{number}",
        heading,
        text,
        tables=tables,
        figures=_drawn(result, plots, ready),
        exploratory=bool(a.get("exploratory")),
    )


def _summary(result: CorrelationResult) -> str:
    """Describe the size of a result and its uncertainty in a sentence or two."""
    a = result.dataset.attrs
    of = f" from {int(a['n_donors']):,} donors" if a.get("n_donors") else ""
    genes = len(result.genes)
    noun = "modules" if of_modules(result.dataset) else "genes"
    pairs = f"{genes:,} {noun}"
    if result.target:
        own = int(result.target in result.genes)
        pairs = f"{genes - own:,} partners of {result.target}"
    if result.target is None and not has_all_pairs(result.dataset):
        pairs = f"{scope(result.dataset)}, {pairs}"
    kind = str(a.get("uncertainty", "none"))
    how = {
        "none": "without measures of uncertainty",
        "jackknife": "standard errors by the jackknife",
        "cluster": "cluster-robust standard errors",
        "bootstrap": "standard errors by the bootstrap",
        "hierarchical": "uncertainty from the hierarchical model over donors",
    }.get(kind, f"uncertainty: {kind}")
    return (
        f"{pairs} in {int(a.get('n_cells', 0)):,} cells of {int(a.get('n_samples', 0)):,} "
        f"samples{of}; {how}; {missing(result.dataset)}."
    )


def _methods_section(described: Sequence[Described]) -> _Section:
    """Describe results and tables; tables from elsewhere have no text."""
    known = [
        d for d in described if not isinstance(d, pd.DataFrame) or d.attrs.get("model") in MODELS
    ]
    texts = list(dict.fromkeys(methods_text(d) for d in known))
    return _Section("methods", "Methods", texts, cited(texts))


def _provenance_section(results: Sequence[CorrelationResult], names: Sequence[str]) -> _Section:
    tables = []
    for k, (r, name) in enumerate(zip(results, names, strict=True)):
        attrs = pd.DataFrame(
            {"value": {str(n): str(v) for n, v in r.dataset.attrs.items() if n != "note"}}
        )
        tables.append(_table(f"provenance{k}", attrs, name, search=False))
    versions = pd.DataFrame({"version": session_versions()})
    tables.append(_table("session", versions, "Session", search=False))
    return _Section("provenance", "Provenance", tables=tables)


def session_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed, by name."""
    return {
        "Python": platform.python_version(),
        **{p: v for p in _PACKAGES if (v := _version(p))},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


_METHODS = ("estimator", "uncertainty", "formula", "weights", "moderated")  # told in headings


def _headings(results: Sequence[CorrelationResult]) -> list[str]:
    """Return a heading for each result, with its cells; methods or numbers tell equals apart."""
    names = []
    for result in results:
        title = str(result.dataset.attrs.get("title", "hiercorr"))
        names.append(_capital(title) + _of_cells([result]))
    attrs = [r.dataset.attrs for r in results]
    for option in _METHODS:
        for name in {n for n in names if names.count(n) > 1}:
            same = [k for k, n in enumerate(names) if n == name]
            chosen = [str(attrs[k].get(option)) for k in same]
            if len(set(chosen)) > 1:
                for k, value in zip(same, chosen, strict=True):
                    names[k] += f", {option} {value}"
    before = [names[:k].count(name) for k, name in enumerate(names)]
    return [f"{name}, no. {n + 1}" if n else name for n, name in zip(before, names, strict=True)]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _about(evidence: Evidence, results: Sequence[CorrelationResult]) -> str:
    """Return the heading of a report on the evidence for a gene, or for pairs."""
    with_gene = f"Correlation with {evidence.target}" if evidence.target else None
    return f"{with_gene or f'Correlation: {evidence.scope}'}{_of_cells(results)}"


def _of_cells(results: Sequence[CorrelationResult]) -> str:
    """Return the selected cells in brackets, if they are the same in all results."""
    selected = {selected_cells(r.dataset.attrs, 80) for r in results}
    return f" ({selected.pop()})" if len(selected) == 1 and selected != {""} else ""
