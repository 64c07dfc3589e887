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
from hiercorr.plotting.style import save
from hiercorr.reporting.methods_text import MODELS, Described, methods_text
from hiercorr.reporting.references import cited
from hiercorr.reporting.translations import LANGUAGES, translate, translate_cell
from hiercorr.results.cell_types import CellTypes
from hiercorr.results.pairs import effects
from hiercorr.results.result import CorrelationResult
from hiercorr.results.text import P_VALUES, small_number
from hiercorr.runtime.files import write_text
from hiercorr.runtime.optional import optional
from hiercorr.runtime.user_warnings import warn

_HEATMAP_GENES = 300
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


def report(
    path: str | Path,
    *results: CorrelationResult | CellTypes,
    design: DesignCheck | None = None,
    traps: Traps | None = None,
    evidence: Evidence | None = None,
    enrichment: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    figures: Mapping[str, Any] | None = None,
    findings: Sequence[str] | None = None,
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
    findings : sequence of str, optional
        Sentences of the first section, e.g. those of :func:`hiercorr.analyze`.
    links : mapping, optional
        Further reports: text -> relative path.
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
    _check(path, results, design, traps, evidence)
    shown = [part for result in results for part in _parts(result)]
    instance_of(
        "enrichment", enrichment, (pd.DataFrame, Mapping), "a table or tables by name", True
    )
    instance_of("figures", figures, Mapping, "figures by caption", optional=True)
    for name, value in (("gene", gene), ("title", title)):
        text(name, value, optional=True)
    whole_number("n", n)
    instance_of("findings", findings, (list, tuple), "a list of sentences", optional=True)
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
    if not Path(path).parent.is_dir():
        raise InputError(
            f"cannot write the report to path={str(path)!r}: there is no folder "
            f"{str(Path(path).parent)!r}"
        )
    known = {name for result in shown for name in result.genes}
    if gene is not None and results and gene not in known:
        raise unknown_name("gene", gene, sorted(known))
    one_of("language", language, LANGUAGES)
    template = _template(language)
    tables = {"": enrichment} if isinstance(enrichment, pd.DataFrame) else dict(enrichment or {})
    sections = []
    if findings or links:
        section = _Section("findings", "Key findings", items=list(findings or []))
        section.links = dict(links or {})
        sections.append(section)
    if design is not None:
        sections.append(_design_section(design))
    if traps is not None:
        sections.append(_traps_section(traps))
    if evidence is not None:
        sections.append(_evidence_section(evidence, n))
    names = _headings(shown)
    sections += [_result_section(k, r, names[k], gene, n) for k, r in enumerate(shown)]
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
    exploratory: bool = False


def _table(
    name: str, table: pd.DataFrame, caption: str = "", search: bool = True
) -> dict[str, Any]:
    heads = [str(table.index.name or ""), *(str(c).replace("_", " ") for c in table.columns)]
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
    if abs(number) < 1e-3 and number:
        return f"{number:.1e}"
    integral = number == round(number) and not column.endswith(("correlation", "lower", "upper"))
    if abs(number) >= 1000 or integral:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 100 else f"{number:.3f}"


def _figure(figure: Any, caption: str, close: bool = True) -> dict[str, Any]:
    figure = getattr(figure, "figure", figure)
    width, height = figure.get_size_inches()
    buffer = io.BytesIO()
    save(figure, buffer, "svg", dpi=150)
    if close:
        import matplotlib.pyplot as plt

        plt.close(figure)
    return {
        "caption": caption,
        "data": base64.b64encode(buffer.getvalue()).decode(),
        "wide": width > 2 * height,
    }


def _design_section(design: DesignCheck) -> _Section:
    f, selected = design.facts, selected_cells(design.samples.attrs)
    text = [
        f"{f['n_samples']:,.0f} samples, {f['n_cells']:,.0f} cells"
        f"{f' ({selected})' if selected else ''}, {f['n_genes']:,.0f} genes. "
        f"{proportion(f['variance_share'])} of the variance of expression is between samples "
        f"(median gene), which gives a design effect of {f['design_effect']:,.1f}: the mean over "
        f"{f['n_cells']:,.0f} cells is as precise as the mean over {f['effective_cells']:,.0f} "
        "independent cells.",
        f"Recommendation: {design.recommendation}.",
    ]
    tables = [
        _table(
            "conditions",
            design.conditions_said(),
            "Conditions for pseudobulk (use it if two or more hold)",
            search=False,
        ),
        _table("samples", design.samples, "Samples"),
    ]
    if design.groups is not None:
        tables.append(_table("groups", design.groups, "Cells per sample and cell type"))
    return _Section("design", "Design", text, [*design.reasons, *design.problems], tables)


def _traps_section(traps: Traps) -> _Section:
    caption = "Effects of dropout, sequencing depth and cells as units"
    figures = [_figure(traps.plot(), caption)]
    title = "Traps of cell-level correlation"
    return _Section("traps", title, str(traps).splitlines(), figures=figures)


def _enrichment_section(tables: Mapping[str, pd.DataFrame], n: int) -> _Section:
    shown = [
        _table(f"enrichment{k}", t.head(n), caption)
        for k, (caption, t) in enumerate(tables.items())
    ]
    return _Section("enrichment", "Enrichment", tables=shown)


def _evidence_section(evidence: Evidence, n: int) -> _Section:
    from hiercorr import plotting

    counts: dict[str, int] = evidence.counts().to_dict()
    text = [
        f"Partners of {evidence.target} at q < {evidence.q:g}: "
        + ", ".join(f"{k} {name}" for name, k in counts.items())
        + ". Significance at only one level is no evidence of absence at the other; see its "
        "interval."
    ]
    columns = [c for c in evidence.table.columns if c not in ("sign_agreement", "within_tau2")]
    first = ["evidence", *(c for c in columns if c != "evidence")]
    table = evidence.table[first].assign(evidence=evidence.table["evidence"].astype(str))
    figures = _drawn({"Within versus between samples": lambda: plotting.levels(evidence)})
    return _Section(
        "evidence",
        "Evidence at two levels",
        text,
        tables=[_table("evidence-table", table.head(n))],
        figures=figures,
    )


def _drawn(plots: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw the plots that have data, with a warning for the others."""
    out = []
    for caption, draw in plots.items():
        try:
            out.append(_figure(draw(), caption))
        except InputError as error:
            warn(f"no plot {caption!r}: {error}", UserWarning)
    return out


def _result_section(
    number: int, result: CorrelationResult, heading: str, gene: str | None, n: int
) -> _Section:
    a = result.dataset.attrs
    named = result.target or (gene if gene is not None and gene in result.genes else None)
    table = result.top(named, n) if named else result.pairs(n=n).set_index("gene_a")
    total = len(result.genes) - 1 if named else None
    flags = result.flag_counts()
    flags = flags[flags > 0]
    plot = result.plot
    plots: dict[str, Any] = {}
    if named:
        plots[f"Partners of {named}"] = lambda: plot.ranked(named, n=25)
        if "lfsr" in table:
            plots["Largest shrunken estimates"] = lambda: plot.ranked(named, 25, shrunken=True)
        if "p_value" in table:
            plots["Evidence versus effect size"] = lambda: plot.volcano(named)
        strongest = next((g for g, r in effects(table).items() if np.isfinite(r)), None)
        if "sample_correlation" in result.dataset and strongest is not None:
            pair = (strongest,) if result.target else (named, strongest)
            plots[f"{named} and {strongest}, sample by sample"] = lambda: plot.forest(*pair)
            caption = "Partners with the strongest evidence, sample by sample"
            plots[caption] = lambda: plot.strip(named)
    if result.target is None:
        plots["Clustered correlations"] = lambda: plot.heatmap(max_genes=_HEATMAP_GENES)
    if "p_value" in result.dataset and bool(result.dataset["p_value"].notnull().any()):
        plots["p-values (samples as units)"] = plot.p_histogram
        plots["QQ plot"] = plot.qq
    plots["Diagnostics: detection and flags"] = plot.diagnostics
    limit = "" if total is None or total <= n else f" The first {n} of {total:,} are shown."
    text = [repr(result)[1:-1] + "." + limit, *([str(a["note"])] if a.get("note") else [])]
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
        figures=_drawn(plots),
        exploratory=bool(a.get("exploratory")),
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
    versions = {
        "Python": platform.python_version(),
        **{p: v for p in _PACKAGES if (v := _version(p))},
    }
    tables.append(_table("session", pd.DataFrame({"version": versions}), "Session", search=False))
    return _Section("provenance", "Provenance", tables=tables)


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
        names.append(title[0].upper() + title[1:] + _of_cells([result]))
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


def _about(evidence: Evidence, results: Sequence[CorrelationResult]) -> str:
    """Return the heading of a report on the evidence for a gene."""
    return f"Correlation with {evidence.target}{_of_cells(results)}"


def _of_cells(results: Sequence[CorrelationResult]) -> str:
    """Return the selected cells in brackets, if they are the same in all results."""
    selected = {selected_cells(r.dataset.attrs, 80) for r in results}
    return f" ({selected.pop()})" if len(selected) == 1 and selected != {""} else ""
