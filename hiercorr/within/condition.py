"""Condition of a differential analysis: its design matrix, contrasts, groups and permutations."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.design import formulas
from hiercorr.design.levels import in_order, is_ordered, one_name_each
from hiercorr.design.matrix import DesignMatrix, make_design, own_coefficients, sample_design
from hiercorr.design.nesting import like_codes
from hiercorr.design.samples import (
    Combination,
    check_block,
    refuse_swapped,
    sample_name,
    sample_table,
    warn_of_few_donors,
    warn_of_repeated_donors,
)
from hiercorr.design.terms import split_terms
from hiercorr.errors import DataWarning, EstimationWarning, InputError, text, unknown_name
from hiercorr.runtime.user_warnings import warn
from hiercorr.within import differential_tests

TESTS = ("overall", "pairwise", "trend")  # values of contrast= that are no contrast themselves
_SMOOTH = re.compile(r"(bs|cs|cr|cc|poly)\(")
_CENTRED = re.compile(r"(cs|cr|cc)\((?!.*constraints)")
_FITTED = 25  # values of a numeric condition at which its curve is computed
_UNBALANCED = 1.5  # ratio of group sizes from which permutations are warned of
Contrast = str | Sequence[str] | None


@dataclass(frozen=True)
class Condition:
    """The condition as the user stated it.

    Attributes
    ----------
    stated : str
        Column of ``obs``, or a smooth function of one, such as ``"bs(age, df=3)"``.
    sample : str
        Column with the sample of each cell.
    formula : str or None
        Covariates.
    block : str or None
        Column with the donor of each sample.
    contrast : str or (column, level, baseline), optional
        Linear combination of coefficients, or one of :data:`TESTS`.
    selecting : str
        How samples are left out, in messages.
    """

    stated: str
    sample: str
    formula: str | None
    block: str | None
    contrast: Contrast
    selecting: str = "with subset="

    def __post_init__(self) -> None:
        if isinstance(self.contrast, str):
            object.__setattr__(self, "contrast", self.contrast.strip())

    @property
    def smooth(self) -> bool:
        """Whether the condition is a smooth function of a column."""
        return _SMOOTH.match(self.stated) is not None

    @property
    def column(self) -> str:
        """Column of ``obs``."""
        if not self.smooth:
            return self.stated
        found = formulas.columns(f"~ {self.stated}")
        if len(found) != 1:
            raise InputError(
                f"condition {self.stated!r} must be a function of one column of obs, and has "
                f"{', '.join(map(repr, found)) or 'none'}"
            )
        return found[0]

    @property
    def columns(self) -> list[str]:
        """Columns of the condition and of the formula."""
        of_formula = [] if self.formula is None else formulas.columns(self.formula)
        return [self.column, *(c for c in of_formula if c != self.column)]

    @property
    def term(self) -> str:
        """Term of the formula; natural and cyclic splines are centred beside the intercept."""
        if not self.smooth:
            return f"`{self.stated}`"
        if _CENTRED.match(self.stated):
            return self.stated.rstrip()[:-1] + ", constraints='center')"
        return self.stated

    @property
    def units(self) -> str:
        """Column or columns that define the units.

        Sample x condition if conditions are compared within samples.
        """
        within = self.block == self.sample and self.column != self.sample
        return Combination((self.sample, self.column)) if within else self.sample


def condition_asked(
    condition: str,
    sample: str | Sequence[str],
    formula: str | None,
    block: str | None,
    contrast: Contrast,
) -> Condition:
    """Check the options that state a condition; ``(1 | donor)`` of a formula is the block."""
    sample = sample_name(sample)
    text("condition", condition)
    for name, value in (("formula", formula), ("block", block)):
        text(name, value, optional=True)
    formula, columns = formulas.random_blocks(formula, block)
    return Condition(condition, sample, formula, columns[0] if columns else block, contrast)


@dataclass(frozen=True)
class ConditionDesign:
    """Design matrix of the units and the contrast to test.

    Attributes
    ----------
    table : DataFrame
        One row per unit, with the columns that are constant within units.
    design : DesignMatrix
        Matrix with the condition, covariates of samples and blocks.
    levels : list of str or None
        Levels of the condition; None for a numeric condition.
    test : {"contrast", "overall", "pairwise", "trend"}
        Whether one contrast of coefficients is tested, all groups (or all coefficients of a curve)
        together, these and each pair of groups, or the slope over ordered groups.
    contrast : ndarray, shape (n_coefficients,)
        Weights of the coefficients; of the first row of `rows` in an overall test.
    rows : ndarray, shape (q, n_coefficients), or None
        Contrasts that are 0 under the null hypothesis of an overall test.
    fitted : ndarray, shape (m, n_coefficients), or None
        Weights of the coefficients in the correlation of each group, averaged over the samples'
        covariates, or at values of a numeric condition, for an overall test.
    pairs : dict
        Name and weights of the contrast of each pair of groups.
    cell_terms, sample_terms : list of str
        Terms of the formula that vary between the cells of a sample, and those that do not.
    cells : ndarray, shape (n_cells, k), or None
        Design matrix of the covariates of cells.
    """

    table: pd.DataFrame
    design: DesignMatrix
    levels: list[str] | None
    cell_terms: list[str]
    sample_terms: list[str]
    cells: NDArray[np.float64] | None
    test: str
    contrast: NDArray[np.float64]
    rows: NDArray[np.float64] | None = None
    fitted: NDArray[np.float64] | None = None
    pairs: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def groups(self, condition: str) -> NDArray[np.int64] | None:
        """Return the level of each unit, shape (n_units,); None for a numeric condition."""
        if self.levels is None:
            return None
        codes = pd.Index(self.levels).get_indexer(self.table[condition].astype(str))
        return np.asarray(codes, np.int64)

    def describe_contrast(self) -> str:
        """Describe what is tested: coefficients, groups, or a linear combination of them."""
        if self.test == "trend":
            assert self.levels is not None
            return f"slope per level of {' < '.join(self.levels)}"
        if self.rows is not None:
            if self.levels is not None:
                return f"equality of {', '.join(self.levels)}"
            tested = np.flatnonzero(self.rows.any(0))
            return f"{', '.join(self.design.names[k] for k in tested)} = 0"
        parts = [f"{w:+g} {n}" for w, n in zip(self.contrast, self.design.names, strict=True) if w]
        if len(parts) == 1:
            return parts[0].removeprefix("+").replace("1 ", "", 1)
        return " ".join(parts)


def condition_design(counts: Counts, condition: Condition) -> ConditionDesign:
    """Build the design matrix with the condition in it, and find the contrast.

    Parameters
    ----------
    counts : Counts
        Counts whose samples are the units.
    condition : Condition

    Returns
    -------
    ConditionDesign

    Raises
    ------
    InputError
        If the condition is unknown, varies within samples, has a group of one sample or is
        confounded, or if the contrast is ambiguous.
    """
    table, varying = sample_table(counts.obs, counts.starts, counts.samples)
    if condition.block in varying:
        refuse_swapped(condition.block, condition.sample, counts.obs)
    known = [str(c) for c in counts.obs.columns]
    found = design_of_samples(table, condition, varying, known)
    if not found.cell_terms:
        return found
    text = "~ " + " + ".join(found.cell_terms)
    return replace(found, cells=make_design(text, counts.obs).matrix)


def design_of_samples(
    table: pd.DataFrame,
    condition: Condition,
    varying: Sequence[str] = (),
    known: Sequence[str] | None = None,
) -> ConditionDesign:
    """Build the design matrix of a condition from a table with one row per unit.

    Parameters
    ----------
    table : DataFrame
    condition : Condition
    varying : sequence of str
        Columns that vary between the cells of a unit.
    known : sequence of str, optional
        Names of all columns. None: those of the table.

    Returns
    -------
    ConditionDesign
        Without the design matrix of the covariates of cells.
    """
    known = [str(c) for c in table.columns] if known is None else known
    formula = formulas.formula_text("~ 1" if condition.formula is None else condition.formula)
    if "1" not in map(str, formulas.parse(formula)):
        raise formulas.no_intercept(formula)
    of_cells, of_samples = split_terms(formula, table.columns, list(known))
    levels = _levels(condition, table, varying, known)
    if condition.block is not None:
        check_block(condition.block, table, varying, known)
        _check_blocks(table, condition)
    text = "~ " + " + ".join(of_samples or ["1"])
    if condition.column not in formulas.columns(text):
        text += f" + {condition.term}"
    elif condition.smooth:
        raise InputError(
            f"condition={condition.stated!r} and formula={condition.formula!r} both have "
            f"{condition.column!r}: give it in one of them"
        )
    design = sample_design(text, table, varying, condition.block)
    n, k = design.matrix.shape
    if n - k < 1:
        raise InputError(
            f"formula {design.formula!r} has {k} coefficients for {n} samples, which leaves no "
            "residual degrees of freedom; drop terms"
        )
    if condition.block is None:
        warn_of_repeated_donors(
            table,
            condition.sample,
            n,
            "p-values are too small",
            "block={column}",
            condition.selecting,
        )
    given = (table, design, levels, of_cells, of_samples, None)
    return ConditionDesign(*given, **_tested(condition, design, table[condition.column], levels))


def _levels(
    condition: Condition, table: pd.DataFrame, varying: Sequence[str], known: Sequence[str]
) -> list[str] | None:
    """Levels of the condition, each with at least 2 samples; None for a numeric condition."""
    name = condition.column
    if name in varying:
        raise InputError(
            f"condition {name!r} varies within samples: a sample must have one value of it; or "
            f"compare the conditions within samples, with block={condition.sample!r}"
        )
    if name not in table:
        raise unknown_name("condition column", name, known)
    values = table[name]
    if values.isna().any():
        raise InputError(
            f"condition {name!r} is missing for sample {values.index[values.isna()][0]!r}; leave "
            f"it out {condition.selecting}"
        )
    one_name_each("condition column", name, values)
    one_value = f"condition {name!r} has one value, {str(values.iloc[0])!r}, in all samples"
    if values.nunique() < 2:
        raise InputError(f"{one_value}: nothing to compare")
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        codes = like_codes(name, values) or (values.nunique() == 2 and np.ptp(values) != 1)
        if pd.api.types.is_integer_dtype(values) and codes:
            warn(
                f"condition {name!r} has whole numbers ({values.min()} to {values.max()}): the "
                "difference is a slope per unit; if they are codes of groups, use strings, "
                f"obs[{name!r}].astype(str); if the slope is meant, floats",
                DataWarning,
            )
        return None
    if condition.smooth:
        raise InputError(
            f"condition={condition.stated!r} needs numbers, and column {name!r} has "
            f"{values.dtype} values, e.g. {str(values.iloc[0])!r}"
        )
    levels = [str(v) for v in in_order(values)]
    size = values.astype(str).value_counts()
    if (size < 2).any():
        raise InputError(
            f"condition {name!r} has one sample in group {size.index[size < 2][0]!r}: a "
            "difference needs at least 2 samples in each group"
        )
    return levels


def _check_blocks(table: pd.DataFrame, condition: Condition) -> None:
    both = table.groupby(condition.block, observed=True)[condition.column].nunique() > 1
    if both.sum() < 2:
        raise InputError(
            f"{int(both.sum())} values of block {condition.block!r} have samples of more than one "
            f"{condition.column!r}: nothing can be compared within blocks; to compare donors, "
            f"make them the units with sample={condition.block!r}, and centre each of their "
            f"samples with formula='~ {condition.sample}'"
        )
    warn_of_few_donors(str(condition.block), int(both.sum()))


def _tested(
    condition: Condition, design: DesignMatrix, values: pd.Series, levels: list[str] | None
) -> dict[str, Any]:
    """Find what is tested: a contrast, all groups together, pairs of them, or their trend."""
    test = _test_of(condition, design, values, levels)
    if test == "contrast":
        return {"test": test, "contrast": _contrast(condition, design, levels)}
    if levels is None:
        rows = np.eye(len(design.names))[_own(condition, design)]
        distinct = np.unique(values.to_numpy(float))
        at = np.unique(np.quantile(distinct, np.linspace(0, 1, _FITTED), method="nearest"))
        fitted = design.level_rows(condition.column, list(at))
        return {"test": test, "contrast": rows[0], "rows": rows, "fitted": fitted}
    fitted = design.level_rows(condition.column, in_order(values))
    if test == "trend":
        scores = np.arange(len(levels)) - (len(levels) - 1) / 2
        return {"test": test, "contrast": scores @ fitted / (scores @ scores)}
    rows = fitted[1:] - fitted[0]
    pairs = {
        f"{levels[j]} - {levels[i]}": fitted[j] - fitted[i]
        for i, j in itertools.combinations(range(len(levels)), 2)
    }
    found = {"test": test, "contrast": rows[0], "rows": rows, "fitted": fitted}
    return found | {"pairs": pairs if test == "pairwise" else {}}


def _test_of(
    condition: Condition, design: DesignMatrix, values: pd.Series, levels: list[str] | None
) -> str:
    """Return the kind of test that is asked for, or that suits the condition."""
    wanted, name = condition.contrast, condition.column
    if wanted is None:
        if len(own_coefficients(design.names, name)) == 1:
            return "contrast"
        return "trend" if levels is not None and is_ordered(values) else "overall"
    if not isinstance(wanted, str) or wanted in design.names:
        return "contrast"
    if wanted not in TESTS:
        if re.fullmatch(r"[A-Za-z]\w*", wanted):
            raise unknown_name("contrast", wanted, (*TESTS, *design.names))
        return "contrast"
    if wanted == "pairwise" and levels is None:
        raise InputError(
            f"contrast='pairwise' compares groups, and condition {name!r} is a number: leave it "
            "out, or use obs[...].astype(str) if the numbers are codes of groups"
        )
    if wanted == "trend":
        if levels is None and len(own_coefficients(design.names, name)) == 1:
            return "contrast"
        if levels is None or not is_ordered(values):
            raise InputError(
                f"contrast='trend' needs an order of the groups of {name!r}: make it an ordered "
                "categorical, pd.Categorical(obs[...], categories=[...], ordered=True), or a number"
            )
    return wanted


def _own(condition: Condition, design: DesignMatrix) -> list[int]:
    """Return the positions of the coefficients of the condition, also of functions of it."""
    own = own_coefficients(design.names, condition.column)
    own = own or design.positions(condition.column)
    if not own:
        raise InputError(
            f"condition {condition.column!r} has no coefficient of its own in formula "
            f"{design.formula!r}: state the difference with contrast="
        )
    return own


def _contrast(
    condition: Condition, design: DesignMatrix, levels: list[str] | None
) -> NDArray[np.float64]:
    wanted = condition.contrast
    stated = wanted in design.names or wanted != "trend" if isinstance(wanted, str) else True
    if wanted is not None and stated:
        return design.difference(wanted)
    return np.eye(len(design.names))[_own(condition, design)[0]]


def check_pooled(
    question: differential_tests.Question, condition: Condition, permutations: int | None
) -> None:
    """Raise an error unless two groups are compared without adjustment, as for ``"pooled"``.

    Warns of unbalanced groups.
    """
    groups = question.groups
    for refused, what in (
        (condition.block is not None, "block="),
        (permutations is not None, "permutations="),
        (groups is None, "a numeric condition"),
        (
            question.design.shape[1] != 2,
            "covariates (formula=) or more than two groups (choose two with subset=)",
        ),
    ):
        if refused:
            raise InputError(
                "method='pooled' compares two separate groups and cannot be combined with "
                f"{what}: use 'regression'"
            )
    assert groups is not None
    sizes = np.bincount(groups)
    smallest, largest = sizes.min(), sizes.max()
    if smallest < 3:
        raise InputError(
            f"method='pooled' needs at least 3 samples in each group of {condition.column!r}, and "
            f"the smallest has {smallest}"
        )
    if largest > 2 * smallest:
        warn(
            f"method='pooled' with {smallest} and {largest} samples: in unbalanced groups small "
            "p-values are too small; in simulations of 3 against 10 samples most of a screen's "
            "list was false; use method='regression', the default",
            EstimationWarning,
        )


def condition_shuffles(
    found: ConditionDesign, condition: Condition, n: int, seed: Any
) -> differential_tests.Shuffles:
    """Permute the condition over samples, within blocks.

    Parameters
    ----------
    found : ConditionDesign
    condition : Condition
    n : int
        Maximum number of arrangements.
    seed : int, Generator or None

    Returns
    -------
    Shuffles
    """
    if n < 19:
        raise InputError(f"permutations={n}: at least 19 are needed for a p-value of 0.05")
    if found.levels is not None and len(found.levels) > 2:
        raise InputError(
            f"permutations need two groups or a numeric condition; choose two of {found.levels} "
            "with subset="
        )
    if found.rows is not None:
        raise InputError(
            f"permutations test one contrast, and condition {condition.stated!r} has "
            f"{len(found.rows)} coefficients: leave out permutations="
        )
    names = found.design.names
    own = [k for k in range(1, len(names)) if not names[k].startswith(f"C(`{condition.block}`)[")]
    if len(own) != 1:
        raise InputError(
            "permutations are valid for the condition and blocks only: name a categorical "
            "covariate as block=, or leave out permutations= (the t test adjusts for covariates)"
        )
    if np.delete(found.contrast, own).any():
        raise InputError(
            f"permutations test {names[own[0]]!r}, and contrast={condition.contrast!r} is "
            f"{found.describe_contrast()!r}: leave out one of the two"
        )
    numbers = found.design.matrix[:, own[0]]
    strata = (
        np.zeros(len(numbers), np.int64)
        if condition.block is None
        else pd.factorize(found.table[condition.block])[0].astype(np.int64)
    )
    shuffles = differential_tests.shuffles(numbers, strata, n, seed)
    differential_tests.check_reach(shuffles, condition.column)
    if shuffles.smallest_p > 0.05:
        warn(
            f"{len(shuffles.values)} arrangements of {condition.column!r} can give no p-value "
            f"below {shuffles.smallest_p:.2g}",
            EstimationWarning,
        )
    if found.levels is not None and condition.block is None:
        _warn_of_unbalanced(condition.column, found.table[condition.column].astype(str))
    return shuffles


def _warn_of_unbalanced(name: str, groups: pd.Series) -> None:
    """Warn if permuted groups are so unequal that unequal variances make p-values too small."""
    size = groups.value_counts()
    if size.max() >= _UNBALANCED * size.min():
        warn(
            f"groups of {size.min()} and {size.max()} samples of {name!r} are permuted: the test "
            "is exact only if samples are exchangeable, and rejects too often if the correlations "
            "of the smaller group vary more; the t test (uncertainty='HC2') is recommended",
            EstimationWarning,
        )
