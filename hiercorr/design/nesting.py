"""Nesting and crossing of the columns that group cells: donors, samples, conditions, cell types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Codes = NDArray[np.int64]

DONOR_WORDS = (
    "donor",
    "patient",
    "subject",
    "individual",
    "mouse",
    "animal",
    "participant",
    "person",
)
_SAMPLE_TOKENS = {"sample", "samples", "specimen", "biopsy", "library", "lib", "channel", "ident"}
_CONDITION = re.compile(
    "conditions?|cond|treatments?|treated|treat|trt|arms?|groups?|stim|stimulus|stimulated|"
    "stimulation|drug|dose|exposure|exposed|perturbation|perturbed|challenge|infection|infected|"
    "diet|genotype|time|timepoints?|days?|weeks?|months?|hours?|visits?|batch|batches|plate|"
    "regions?|tissue|location|site"
)
_OF_CELLS = re.compile(
    "cells?|celltypes?|clusters?|type|subtype|state|phase|leiden|louvain|annotation|labels?|score|"
    "n|num|counts?|percent|pct"
)
_CODES = {"batch", "batches", "date", "plate", "run", "lane", "chip", "pool", "site", "id"}
_MAX_NUMERIC_LEVELS = 50
_CELLS_PER_LEVEL = 5  # columns with fewer, on average, identify cells and do not group them


def tokens(name: str) -> set[str]:
    """Return the words of the name of a column, e.g. ``{"time", "point"}`` for ``TimePoint``."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+", name)
    return {word.lower() for word in words}


def like_donor(name: str) -> bool:
    """Return whether the name of a column suggests donors."""
    return any(word in name.lower() for word in DONOR_WORDS)


def like_sample(name: str) -> bool:
    """Return whether the name of a column suggests samples."""
    return bool(tokens(name) & _SAMPLE_TOKENS)


def like_condition(name: str) -> bool:
    """Return whether the name of a column suggests a condition, time point, region or batch."""
    words = tokens(name)
    return any(map(_CONDITION.fullmatch, words)) and not any(map(_OF_CELLS.fullmatch, words))


def like_codes(name: str, values: pd.Series) -> bool:
    """Return whether the numbers of a column are probably codes of groups.

    They are whole, and the name suggests codes or several rows share a value. Two levels are none:
    a difference between codes is a difference between groups.
    """
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return False
    whole, levels = _whole(values), values.nunique()
    coded = bool(_CODES & tokens(name)) or levels <= len(values) / 2
    return whole and coded and levels > 2


def _whole(values: pd.Series) -> bool:
    """Return whether all numbers, of any type of pandas, are known and whole."""
    number = values.to_numpy(float, na_value=np.nan)
    return bool((number == np.floor(number)).all())


def group_codes(values: pd.Series, samples: Codes | None = None) -> Codes | None:
    """Return the groups of a column as 0, 1, ...; missing values are a group.

    Parameters
    ----------
    values : Series
        Column of ``obs``.
    samples : ndarray of int, optional
        Sample of each cell. Where a sample has one value, its missing values are taken for it (a
        modality may lack cells).

    Returns
    -------
    ndarray of int or None
        None for measurements (numbers that are not whole or have more than 50 values; other numbers
        group cells only if the name suggests it) and for identifiers of cells.
    """
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    name = str(values.name)
    if numeric and not (like_donor(name) or like_sample(name) or like_condition(name)):
        return None
    if numeric and not _whole(values.dropna()):
        return None
    try:
        codes = pd.factorize(values)[0].astype(np.int64)
    except TypeError:  # values that cannot be hashed
        return None
    codes = _with_missing(codes, samples)
    levels = int(codes.max()) + 1 if len(codes) else 0
    few = levels <= _MAX_NUMERIC_LEVELS if numeric else True
    return codes if few and levels * _CELLS_PER_LEVEL <= len(codes) else None


def _with_missing(codes: Codes, samples: Codes | None) -> Codes:
    """Replace the codes of missing values, -1, by that of their sample or a group of their own."""
    missing = codes < 0
    if not missing.any():
        return codes
    if samples is not None:
        n = int(samples.max()) + 1
        low, high = np.full(n, np.iinfo(np.int64).max), np.full(n, -1)
        np.minimum.at(low, samples[~missing], codes[~missing])
        np.maximum.at(high, samples[~missing], codes[~missing])
        one = missing & (low == high)[samples]
        codes = np.where(one, high[samples], codes)
    return np.where(codes < 0, codes.max() + 1, codes)


def nests(inner: Codes, outer: Codes) -> bool:
    """Return whether every group of `inner` lies in one group of `outer`."""
    return _combinations(inner, outer) == _levels(inner)


def _levels(codes: Codes) -> int:
    return len(np.unique(codes))


def _combinations(a: Codes, b: Codes) -> int:
    return len(np.unique(a * (int(b.max()) + 1) + b))


def without_properties(names: Iterable[str], codes: Mapping[str, Codes]) -> list[str]:
    """Drop columns that describe other ones, such as ``donor_sex`` next to ``donor``.

    Parameters
    ----------
    names : iterable of str
        Columns named like donors.
    codes : mapping
        Groups of the columns.

    Returns
    -------
    list of str
        Columns without those in which another one nests.
    """
    names = list(names)
    return [
        a
        for a in names
        if not any(
            nests(codes[b], codes[a])
            and (_levels(codes[b]) > _levels(codes[a]) or (len(b), b) < (len(a), a))
            for b in names
            if b != a
        )
    ]


@dataclass(frozen=True)
class Structure:
    """How the columns of ``obs`` that group cells are nested and crossed.

    Attributes
    ----------
    sample : str
        Column with the samples: the one that was named or, if conditions vary within it or it
        contains the donors, the finer one that should be.
    block : str or None
        Column with the donors, if donors have several samples.
    n_samples, n_donors : int
        Number of samples, and of independent units.
    levels : dict
        Number of groups of each column.
    relations : DataFrame
        One row per pair of columns: ``column``, ``relation`` ("nested in", "crossed with" or "same
        as"), ``other``, and ``balanced`` (whether all groups of `other` contain the same number of
        groups of `column`; crossed: whether all combinations occur in the same number of samples).
    nesting : tuple of str
        Columns of the random intercepts, from the donors to the samples.
    within_donors, between_donors : tuple of str
        Columns with one value per sample: crossed with the donors, and constant in each.
    within_samples : tuple of str
        Columns that vary within samples, such as cell types.
    confounding : tuple of str
        Those of `within_samples` that are named like a condition or a batch.
    same : tuple of str
        Columns with the same groups as the samples or the donors.
    constant : tuple of str
        Columns with one value in all cells.
    """

    sample: str
    block: str | None
    n_samples: int
    n_donors: int
    levels: dict[str, int]
    relations: pd.DataFrame
    nesting: tuple[str, ...]
    within_donors: tuple[str, ...]
    between_donors: tuple[str, ...]
    within_samples: tuple[str, ...]
    confounding: tuple[str, ...]
    same: tuple[str, ...]
    constant: tuple[str, ...]

    @property
    def random(self) -> str:
        """Random intercepts in the notation of lme4, e.g. ``"(1 | donor/sample)"``."""
        return f"(1 | {'/'.join(quoted(c) for c in self.nesting)})"

    @property
    def options(self) -> str:
        """Options of the models, e.g. ``"sample='sample', block='donor'"``."""
        block = "" if self.block is None else f", block={self.block!r}"
        return f"sample={getattr(self.sample, 'columns', self.sample)!r}{block}"

    def is_balanced(self, column: str, other: str) -> bool:
        """Return whether two columns are balanced, see `relations`."""
        r = self.relations
        here = ((r["column"] == column) & (r["other"] == other)) | (
            (r["column"] == other) & (r["other"] == column)
        )
        return bool(r.loc[here, "balanced"].all())

    def lines(self) -> list[str]:
        """Describe the structure, one line per kind of column."""
        n, d = self.n_samples, self.n_donors
        if self.block is None:
            out = [f"{self.random}: {n} samples, one per donor as far as the columns tell"]
        else:
            each = self.is_balanced(self.sample, self.block)
            how = f"{n // d} each" if each else "unequal numbers"
            out = [f"{self.random}: {n} samples nested in {d} donors, {how}"]
        donor = self.block or self.sample
        for column in self.within_donors:
            balanced = "balanced" if self.is_balanced(column, donor) else "not balanced"
            out.append(f"{column} crossed with {donor}: {self.levels[column]} levels, {balanced}")
        for text, columns in (
            (f"between levels of {donor}", self.between_donors),
            ("varying within samples", self.within_samples),
            ("same groups under another name", self.same),
            ("constant", self.constant),
        ):
            if columns:
                out.append(f"{text}: {', '.join(columns)}")
        return out

    def __str__(self) -> str:
        return "\n".join(self.lines())


def quoted(name: str) -> str:
    """Return the name of a column as formulas write it."""
    return name if name.isidentifier() else f"`{name}`"


def design_structure(obs: pd.DataFrame, sample: str, block: str | None = None) -> Structure:
    """Find which columns that group cells are nested, crossed and balanced.

    Without `block`, a column is treated as the donors if samples nest in it and its name suggests
    donors or samples, or if it has 3 or more groups and is crossed completely with a column of
    fewer groups.

    Parameters
    ----------
    obs : DataFrame
        Cells.
    sample : str
        Column with the samples.
    block : str, optional
        Column with the donors of the samples, which have one value of it each.

    Returns
    -------
    Structure

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.design.nesting import design_structure
    >>> print(design_structure(hc.datasets.glioblastoma().obs, "sample_id").random)
    (1 | patient_id/sample_id)
    """
    samples = pd.factorize(obs[sample], use_na_sentinel=False)[0].astype(np.int64)
    found = {str(c): group_codes(obs[c], samples) for c in obs.columns if str(c) != sample}
    cells = {c: codes for c, codes in found.items() if codes is not None}
    named = [sample] if block is None else [sample, block]
    for c in named:
        cells[c] = pd.factorize(obs[c], use_na_sentinel=False)[0].astype(np.int64)
    distinct = pd.DataFrame(cells).drop_duplicates()
    codes = {c: distinct[c].to_numpy() for c in cells if _levels(distinct[c].to_numpy()) > 1}
    codes |= {c: distinct[c].to_numpy() for c in named}
    constant = tuple(c for c in cells if c not in codes)
    finer = _finer_sample(codes, sample) if block is None else None
    unit = finer or sample
    levels = {c: _levels(v) for c, v in codes.items()}
    of_samples = [c for c in codes if c != unit and nests(codes[unit], codes[c])]
    coarser = [c for c in of_samples if levels[c] < levels[unit]]
    if block is None:
        block = _block(codes, levels, unit, coarser)
        if block is None and finer is not None and levels[sample] > 1:
            block = sample
    donor = block or unit
    chain = [] if block is None else [c for c in coarser if _strictly(codes, levels, c, donor)]
    rest = [c for c in coarser if c not in {donor, unit, *chain}]
    same = [c for c in of_samples if c not in coarser and c != donor]
    same += [c for c in rest if levels[c] == levels[donor] and nests(codes[donor], codes[c])]
    rest = [c for c in rest if c not in same]
    between = [c for c in rest if nests(codes[donor], codes[c])]
    varying = [c for c in codes if c != unit and c not in of_samples]
    return Structure(
        sample=unit,
        block=block,
        n_samples=levels[unit],
        n_donors=levels[donor],
        levels=levels,
        relations=_relations(codes, levels, unit),
        nesting=tuple(dict.fromkeys([donor, *sorted(chain, key=levels.__getitem__), unit])),
        within_donors=tuple(c for c in rest if c not in between),
        between_donors=tuple(between),
        within_samples=tuple(varying),
        confounding=tuple(c for c in varying if like_condition(c)),
        same=tuple(same),
        constant=constant,
    )


def _strictly(codes: Mapping[str, Codes], levels: Mapping[str, int], c: str, outer: str) -> bool:
    return levels[c] > levels[outer] and nests(codes[c], codes[outer])


def _finer_sample(codes: Mapping[str, Codes], sample: str) -> str | None:
    """Find the column of samples within a column of donors that was named as the sample."""
    if sample not in codes:
        return None
    levels = {c: _levels(v) for c, v in codes.items()}
    finer = [c for c in codes if _strictly(codes, levels, c, sample)]
    varying = [c for c in codes if like_condition(c) and not nests(codes[sample], codes[c])]
    for c in sorted(finer, key=levels.__getitem__):
        if any(nests(codes[c], codes[v]) for v in varying if v != c):
            return c
        if like_donor(sample) and like_sample(c) and not like_sample(sample):
            return c
    return None


def _block(
    codes: Mapping[str, Codes], levels: Mapping[str, int], unit: str, coarser: list[str]
) -> str | None:
    """Find the column of the donors among the columns in which the samples nest."""
    chosen = {c: codes[c] for c in coarser if not tokens(c) > tokens(unit)}
    for like in (like_donor, like_sample):
        named = without_properties([c for c in chosen if like(c)], chosen)
        if named:
            return max(named, key=levels.__getitem__)
    for c in sorted(chosen, key=levels.__getitem__, reverse=True):
        crossed = any(
            2 <= levels[other] < levels[c]
            and _combinations(codes[c], codes[other]) == levels[c] * levels[other]
            for other in coarser
            if other != c
        )
        if crossed and levels[c] >= 3 and not like_condition(c):
            return c
    return None


def _relations(codes: Mapping[str, Codes], levels: Mapping[str, int], unit: str) -> pd.DataFrame:
    """Tabulate the relation of every pair of columns."""
    rows = []
    first = np.unique(codes[unit], return_index=True)[1]
    constant = {c for c in codes if nests(codes[unit], codes[c])}
    names = sorted(codes, key=levels.__getitem__, reverse=True)
    for k, a in enumerate(names):
        for b in names[k + 1 :]:
            both = _combinations(codes[a], codes[b])
            if both == levels[a]:
                relation = "same as" if levels[a] == levels[b] else "nested in"
                inside = pd.DataFrame({"a": codes[a], "b": codes[b]}).drop_duplicates()["b"]
                balanced = inside.value_counts().nunique() == 1
            else:
                relation = "crossed with"
                at = first if {a, b} <= constant else slice(None)
                times = np.unique(
                    np.column_stack([codes[a][at], codes[b][at]]), axis=0, return_counts=True
                )[1]
                equal = len(np.unique(times)) == 1 or not {a, b} <= constant
                balanced = bool(both == levels[a] * levels[b] and equal)
            rows.append((a, relation, b, bool(balanced)))
    return pd.DataFrame(rows, columns=["column", "relation", "other", "balanced"])
