"""Key findings of an analysis, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiercorr.analysis.plan import Plan
from hiercorr.analysis.steps import Part
from hiercorr.results.pairs import effect_name, effects, limit_names
from hiercorr.results.result import CorrelationResult
from hiercorr.results.text import p_text
from hiercorr.schema import Flag, describe_flag, is_flagged

_NAMED, _LEAST = 3, 3


def findings(part: Part, plan: Plan) -> list[str]:
    """State what was found for one cell type and target.

    Parameters
    ----------
    part : Part
    plan : Plan

    Returns
    -------
    list of str
        Sentences: partners within samples, partners between samples, both, gene sets, differences
        between conditions, and what could not be done.
    """
    out = []
    for level in ("within", "between"):
        if level in part.results:
            out.append(_partners(part.results[level], part, plan, level))
    if part.evidence is not None:
        out.append(_both(part))
    if part.traps is not None:
        out.append(_cells_as_units(part))
    out += _sets(part, plan)
    for name, result in part.results.items():
        if name.startswith("differential_"):
            out.append(_difference(result, name.removeprefix("differential_"), part, plan))
    steps: dict[str, list[str]] = {}
    for step, why in part.skipped.items():
        steps.setdefault(why, []).append(step)
    return out + [not_done(", ".join(names), why) for why, names in steps.items()]


def not_done(steps: str, why: str) -> str:
    """State that steps were omitted, and why."""
    return f"Not done: {steps}. Reason: {why}"


def _units(result: CorrelationResult) -> str:
    """Name the independent units of a result: donors if samples are in blocks."""
    a = result.dataset.attrs
    n_samples = int(a["n_samples"])
    donors = a.get("n_donors")
    samples = f"{n_samples:,} {'sample' if n_samples == 1 else 'samples'}"
    return f"{samples} of {int(donors):,} donors" if donors else samples


def _partners(result: CorrelationResult, part: Part, plan: Plan, where: str) -> str:
    a = result.dataset.attrs
    table = result.top(part.target, n=len(result.genes))
    cells = f" ({int(a['n_cells']):,} cells)" if where == "within" else ""
    head = f"{where.capitalize()} {_units(result)}{cells}, "
    if "q_value" not in table or not table["q_value"].notna().any():
        few = int(a.get("n_donors", a["n_samples"])) < _LEAST
        why = f": inference needs {_LEAST} independent samples" if few else ""
        return f"{head}no partner of {part.target} could be tested{why or _flagged(table)}."
    called = table[table["q_value"] < plan.q]
    tested = int(table["q_value"].notna().sum())
    rate = f"at a false discovery rate of {plan.q:.0%}"
    if not len(called):
        return f"{head}none of {tested:,} {_noun(plan)} is correlated with {part.target} {rate}."
    r = effects(called)
    sign = f"{int((r > 0).sum()):,} positively, {int((r < 0).sum()):,} negatively"
    return (
        f"{head}{len(called):,} of {tested:,} {_noun(plan)} are correlated with {part.target} "
        f"{rate} ({sign}); strongest evidence: {_strongest(called)}.{_by_depth(called)}"
    )


def _flagged(table: pd.DataFrame) -> str:
    """Name the flag of most pairs, which is why none of them could be tested."""
    flags = table["flag"].str.split(",").explode()
    flags = flags[flags != ""]
    return f": most pairs are flagged {flags.mode()[0]}" if len(flags) else ""


def _by_depth(called: pd.DataFrame) -> str:
    """State how many of the significant correlations depth alone explains."""
    n = sum(is_flagged(flags, Flag.DEPTH_DEPENDENT) for flags in called["flag"])
    if not n:
        return ""
    are, name = "is" if n == 1 else "are", describe_flag(Flag.DEPTH_DEPENDENT)
    return (
        f" {n:,} of these {are} no stronger than sequencing depth alone would make them ({name})."
    )


def _noun(plan: Plan) -> str:
    return "genes" if plan.modalities is None else "features"


def _strongest(called: pd.DataFrame, value: str = "correlation") -> str:
    names = []
    low, high = limit_names(value)
    for gene, row in called.head(_NAMED).iterrows():
        text = str(gene)
        if np.isfinite(row.get(value, np.nan)):
            text += f" ({row[value]:.2f}"
            limits = (row.get(low, np.nan), row.get(high, np.nan))
            text += f", {limits[0]:.2f} to {limits[1]:.2f})" if np.isfinite(limits).all() else ")"
        names.append(text)
    return ", ".join(names)


def _both(part: Part) -> str:
    assert part.evidence is not None
    counts = part.evidence.counts()
    names = ", ".join(map(str, part.evidence.of("both levels").index[:_NAMED]))
    more = ", among them " if counts["both levels"] > _NAMED else ": " if names else ""
    both = counts["both levels"]
    number = f"{both:,} genes are" if both > 1 else "1 gene is" if both else "No gene is"
    opposite = counts["discordant"]
    return (
        f"{number} significant both within and between samples with the same sign{more}{names}; "
        f"{counts['cell-state only']:,} within samples only, "
        f"{counts['between-sample only']:,} between samples only"
        + (f", {opposite:,} at both levels with opposite signs." if opposite else ".")
    )


def _cells_as_units(part: Part) -> str:
    assert part.traps is not None
    s = part.traps.summary
    return (
        f"For comparison, tests that treat cells as independent find "
        f"{_number(s['called_cells'])} (Bonferroni, 5%), and still {s['called_shuffled']:.0f} "
        f"after {part.target} was "
        "shuffled within each sample, which leaves no correlation to find."
    )


def _number(partners: float) -> str:
    return "1 partner" if partners == 1 else f"{partners:,.0f} partners"


def _sets(part: Part, plan: Plan) -> list[str]:
    out = []
    for caption, table in part.enrichment.items():
        best = table.nsmallest(1, "q_value")
        for name, q in best["q_value"][best["q_value"] < plan.q].items():
            out.append(f"{caption}: {name} (q {p_text(float(q))}).")
    return out


def _difference(result: CorrelationResult, condition: str, part: Part, plan: Plan) -> str:
    table = result.top(part.target, n=len(result.genes))
    tested = int(table["q_value"].notna().sum()) if "q_value" in table else 0
    if not tested:
        return f"No difference by {condition} could be tested."
    called = table[table["q_value"] < plan.q]
    effect = effect_name(table.columns)
    rate = f"at a false discovery rate of {plan.q:.0%}"
    if not len(called):
        return (
            f"The correlation with {part.target} differs by {condition} for none of {tested:,} "
            f"{_noun(plan)} {rate}."
        )
    return (
        f"The correlation with {part.target} differs by {condition} for {len(called):,} of "
        f"{tested:,} {_noun(plan)} {rate}; strongest evidence: {_strongest(called, effect)}."
    )
