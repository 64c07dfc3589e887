"""Lists of pairs: read from files, or made of features that lie near each other in the genome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.counts.modalities import FEATURE_TYPES, GENES
from hiercorr.errors import InputError, instance_of, listed, number, one_of, text, unknown_name

ANCHORS = ("body", "start")
_COLUMNS = ["gene_a", "gene_b"]
_HEADERS = (("gene_a", "gene_b"), ("ligand", "receptor"))


def read_pairs(path: str | Path) -> pd.DataFrame:
    """Read a list of pairs.

    Parameters
    ----------
    path : str or Path
        A table with the columns ``gene_a`` and ``gene_b``, or ``ligand`` and ``receptor``, in any
        case (separated by commas, semicolons, tabs or spaces), two columns without a header, or
        ``.gmt``: each set is a gene and its partners.

    Returns
    -------
    DataFrame
        Columns ``gene_a`` and ``gene_b``.

    Raises
    ------
    InputError
        If the file does not exist, or a line does not have two names.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"pairs: there is no file {str(path)!r}")
    try:
        text_of_file = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"pairs: {str(path)!r} is not a text file ({error})") from error
    lines = {k: line for k, line in enumerate(text_of_file.splitlines(), 1) if line.strip()}
    if path.suffix == ".gmt":
        sets = [line.rstrip().split("\t") for line in lines.values()]
        rows = [(s[0], partner) for s in sets for partner in s[2:] if partner and partner != s[0]]
        return pd.DataFrame(rows, columns=_COLUMNS)
    separator = _separator(next(iter(lines.values()), ""), path.suffix == ".csv")
    parts = {
        k: [cell.strip().strip('"') for cell in line.split(separator)] for k, line in lines.items()
    }
    columns = [0, 1]
    if parts:
        first = min(parts)
        header = [cell.lower() for cell in parts[first]]
        known = next((names for names in _HEADERS if set(names) <= set(header)), None)
        if known is not None:
            columns = [header.index(name) for name in known]
            del parts[first]
    for k, row in parts.items():
        names = [row[c] for c in columns if c < len(row)]
        if len(names) < 2 or not all(names):
            raise InputError(
                f"pairs: line {k} of {str(path)!r} does not have two names: {lines[k]!r}"
            )
    return pd.DataFrame([[row[c] for c in columns] for row in parts.values()], columns=_COLUMNS)


def _separator(line: str, comma_first: bool) -> str | None:
    """Return what separates the columns, by the first line; None: spaces."""
    if not comma_first and "\t" not in line and len(line.split()) > 1 and ";" not in line:
        return None
    order = ",;\t" if comma_first else "\t;,"
    return next((mark for mark in order if mark in line), None)


def nearby_pairs(
    data: ad.AnnData | pd.DataFrame,
    distance: int = 100_000,
    *,
    anchor: str = "start",
    kinds: tuple[str, str] = (GENES, "Peaks"),
    chrom: str = "chrom",
    start: str = "start",
    end: str = "end",
    strand: str | None = None,
) -> pd.DataFrame:
    """List the pairs of genes and peaks that lie within a distance of each other.

    Parameters
    ----------
    data : AnnData or DataFrame
        Its ``var``, or a feature table: one row for each feature, indexed by name, with the type in
        ``feature_types``.
    distance : int
        Largest distance, in base pairs; 0 for features that overlap.
    anchor : {"start", "body"}
        Distance from the start of transcription of a gene (its end on the strand ``"-"``), or from
        the nearest end of the gene.
    kinds : (str, str)
        Types of both sides; twice the same type for pairs within it.
    chrom, start, end : str
        Columns with the chromosome and the positions.
    strand : str, optional
        Column with ``"+"`` and ``"-"``. None: all genes start at `start`.

    Returns
    -------
    DataFrame
        Columns ``gene_a`` (of the first type), ``gene_b`` and ``distance``, for
        ``CSCore.fit(pairs=)``.

    Raises
    ------
    InputError
        If a column is missing, a position is not a number, or no pair is that near.

    Examples
    --------
    >>> import pandas as pd
    >>> import hiercorr as hc
    >>> var = pd.DataFrame(
    ...     {"chrom": "chr1", "start": [1_000, 1_200, 900_000], "end": [2_000, 1_700, 900_500],
    ...      "feature_types": ["Gene Expression", "Peaks", "Peaks"]},
    ...     index=["GENE", "near", "far"],
    ... )
    >>> hc.nearby_pairs(var, distance=10_000)
      gene_a gene_b  distance
    0   GENE   near       200
    """
    number("distance", distance, 0)
    one_of("anchor", anchor, ANCHORS)
    for name, value in (("chrom", chrom), ("start", start), ("end", end)):
        text(name, value)
    text("strand", strand, optional=True)
    if isinstance(kinds, str) or len(listed("kinds", kinds, "two types of features")) != 2:
        raise InputError(f"kinds must be two types of features, not {kinds!r}")
    var: Any = data if isinstance(data, pd.DataFrame) else getattr(data, "var", None)
    instance_of("data", var, pd.DataFrame, "an AnnData or a feature table")
    needed = [chrom, start, end, FEATURE_TYPES, *([] if strand is None else [strand])]
    for column in needed:
        if column not in var:
            raise unknown_name("column of var", column, var.columns)
    sides = []
    for kind in kinds:
        part = var[var[FEATURE_TYPES].astype(str) == kind]
        if not len(part):
            raise unknown_name("type of features", kind, var[FEATURE_TYPES].unique())
        sides.append(part)
    first, second = (_spans(part, start, end) for part in sides)
    if anchor == "start":
        minus = np.zeros(len(first), bool)
        if strand is not None:
            minus = (sides[0][strand].astype(str) == "-").to_numpy()
        first = np.repeat(np.where(minus, first[:, 1], first[:, 0])[:, None], 2, 1)
    found = _near(first, sides[0][chrom], second, sides[1][chrom], distance)
    if kinds[0] == kinds[1]:
        found = [(i, j, d) for i, j, d in found if i < j]
    if not found:
        raise InputError(
            f"no feature of type {kinds[1]!r} lies within {distance:,} base pairs of one of type "
            f"{kinds[0]!r}: do the names of chromosomes agree?"
        )
    i, j, d = (np.array(values) for values in zip(*found, strict=True))
    names = (part.index.astype(str).to_numpy(object) for part in sides)
    a, b = (side[at] for side, at in zip(names, (i, j), strict=True))
    return pd.DataFrame({"gene_a": a, "gene_b": b, "distance": d.astype(np.int64)})


def _spans(part: pd.DataFrame, start: str, end: str) -> NDArray[np.float64]:
    out = np.empty((len(part), 2))
    for k, column in enumerate((start, end)):
        values = pd.to_numeric(part[column], errors="coerce").to_numpy(float)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InputError(
                f"{column!r} of feature {part.index[bad[0]]!r} is no position: "
                f"{part[column].iloc[bad[0]]!r}"
            )
        out[:, k] = values
    return np.sort(out, axis=1)


def _near(
    first: NDArray[np.float64],
    of_first: Any,
    second: NDArray[np.float64],
    of_second: Any,
    distance: float,
) -> list[tuple[int, int, float]]:
    """Find the features of the second side near each of the first, with their distances."""
    found: list[tuple[int, int, float]] = []
    chroms_a, chroms_b = (np.asarray(c.astype(str)) for c in (of_first, of_second))
    for name in np.unique(chroms_a):
        at = np.flatnonzero(chroms_b == name)
        at = at[np.argsort(second[at, 0], kind="stable")]
        if not len(at):
            continue
        starts, longest = second[at, 0], float((second[at, 1] - second[at, 0]).max())
        for i in np.flatnonzero(chroms_a == name):
            low, high = first[i]
            a = np.searchsorted(starts, low - distance - longest, "left")
            b = np.searchsorted(starts, high + distance, "right")
            some = at[a:b]
            gap = np.maximum(np.maximum(second[some, 0] - high, low - second[some, 1]), 0)
            near = gap <= distance
            found += [
                (int(i), int(j), float(d)) for j, d in zip(some[near], gap[near], strict=True)
            ]
    return found
