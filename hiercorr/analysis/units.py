"""Units of an analysis: samples in which moments are centred, and donors that inference counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from hiercorr.analysis.plan import Plan
from hiercorr.counts.formats import unknown_column
from hiercorr.design.formulas import columns, random_intercepts
from hiercorr.design.nesting import quoted
from hiercorr.errors import InputError


@dataclass(frozen=True)
class Units:
    """How the columns of a plan are used.

    Attributes
    ----------
    sample : str or (str, str)
        Sample column or columns of the models within and between samples.
    block : str or None
        Donor of each of these samples.
    formula : str or None
        Covariates of samples in the model between samples, conditions included.
    within_donors : list of str
        Conditions that vary within `Plan.sample`.
    choices : list of str
        What was chosen and why, in sentences.
    """

    sample: str | tuple[str, str]
    block: str | None
    formula: str | None
    within_donors: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)


def check_columns(plan: Plan, obs: pd.DataFrame) -> None:
    """Raise an error if a column of the plan does not exist, or has two uses.

    Parameters
    ----------
    plan : Plan
    obs : DataFrame
        Cells.
    """
    named = {
        "sample": [plan.sample],
        "condition": plan.condition,
        "cell_type": list(plan.cell_type),
        "subset": list(plan.subset),
        "block": [plan.block] if plan.block else [],
        "depth": _depths(plan),
        "formula": _columns(plan.formula),
        "covariates": _columns(plan.covariates),
    }
    for option, columns_of_it in named.items():
        for column in columns_of_it:
            if column not in obs:
                raise unknown_column(f"column of obs ({option})", column, obs)
    for option, given in (("sample", plan.sample), ("block", plan.block)):
        if given in plan.condition:
            raise InputError(
                f"condition={given!r} is the column of {option}=: name a column whose groups are "
                "compared, or leave it out"
            )


def choose_units(plan: Plan, obs: pd.DataFrame) -> Units:
    """Choose samples and donors by whether the conditions vary within samples.

    Parameters
    ----------
    plan : Plan
    obs : DataFrame
        Cells that are analysed, such as those of one cell type.

    Returns
    -------
    Units

    Raises
    ------
    InputError
        If two conditions vary within samples.
    """
    varying = [c for c in plan.condition if _varies(obs, plan.sample, c)]
    choices = []
    sample: str | tuple[str, str] = plan.sample
    block = None if plan.block == plan.sample else plan.block
    if len(varying) > 1:
        raise InputError(
            f"conditions {' and '.join(map(repr, varying))} vary within the samples of "
            f"{plan.sample!r}: name a column of obs with the single samples as sample=, and "
            f"block={plan.sample!r}"
        )
    if varying:
        if block is not None:
            raise InputError(
                f"condition {varying[0]!r} varies within the samples of {plan.sample!r}, which are "
                f"in blocks of {block!r}: name a column of obs with the single samples as sample="
            )
        sample, block = (plan.sample, varying[0]), plan.sample
        choices.append(
            f"{varying[0]!r} varies within {plan.sample!r}: each combination of the two is a "
            f"sample, and inference is over {plan.sample!r}."
        )
    fixed, random = random_intercepts(plan.formula)
    present = [] if fixed is None else columns(fixed)
    added = [c for c in plan.condition if c not in present]
    for c in list(added):
        if obs[c].nunique() == 1:
            value = str(obs[c].dropna().iloc[0])
            choices.append(f"{c!r} has one value, {value!r}, and is not adjusted for.")
            added.remove(c)
        elif block is not None and not _varies(obs, block, c):
            choices.append(f"Between samples, the effects of {block!r} adjust for {c!r} as well.")
            added.remove(c)
    formula = plan.formula
    if added:
        terms = " + ".join(map(quoted, added))
        formula = f"{formula} + {terms}" if formula else f"~ {terms}"
        choices.append(f"Between samples, {terms} is adjusted for.")
    return Units(sample, None if random else block, formula, varying, choices)


def _depths(plan: Plan) -> list[str]:
    given = plan.depth if isinstance(plan.depth, dict) else {"": plan.depth}
    return [column for column in given.values() if column not in (None, "total", "trimmed")]


def _columns(formula: str | None) -> list[str]:
    if formula is None:
        return []
    fixed, random = random_intercepts(formula)
    return [*([] if fixed is None else columns(fixed)), *random]


def _varies(obs: pd.DataFrame, sample: str, column: str) -> bool:
    return bool((obs.groupby(sample, observed=True)[column].nunique() > 1).any())
