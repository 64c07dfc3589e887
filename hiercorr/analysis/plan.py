"""The specification of an analysis: what is asked of which cells, as ``analysis.toml`` keeps it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hiercorr.errors import (
    InputError,
    between_0_and_1,
    text,
    unknown_name,
    valid_seed,
    whole_number,
)

SAMPLE = "the column of obs with the sample of each cell"


@dataclass(frozen=True)
class Plan:
    """Specification of an analysis.

    Attributes
    ----------
    sample : str
        Column of ``obs`` with the donor or sample of each cell.
    target : list of str
        Genes whose partners are asked for, each with an analysis of its own.
    cell_type : dict
        At most one column of ``obs`` -> labels, each with an analysis of its own. Empty: all cells
        are taken together.
    subset : dict
        Columns of ``obs`` -> label or labels; the analysis is restricted to these cells.
    condition : list of str
        Columns whose groups of samples are compared.
    block : str or None
        Column with the donor of each sample.
    formula : str or None
        Covariates of samples.
    covariates : str or None
        Covariates of cells.
    genes : int, list of str or None
        Genes: a number (the most highly expressed), names, or all.
    layer : str or None
        As for :class:`hiercorr.CSCore`.
    depth : str, dict or None
        Column of ``obs``, or columns by type of features.
    modalities : str, list of str or None
        Types of features of the fits within and between samples, and by condition.
    gene_names : str or None
        Column of ``var`` with the names of the genes.
    min_cells : int
        Smallest sample.
    sets : str
        ``"hallmark"``, the path of a GMT file, or ``"none"`` for no enrichment.
    q : float
        Threshold of the q-values.
    seed : int
        Seed of permutations.
    title : str or None
        Title of the report.
    """

    sample: str
    target: list[str]
    cell_type: dict[str, list[str]] = field(default_factory=dict)
    subset: dict[str, Any] = field(default_factory=dict)
    condition: list[str] = field(default_factory=list)
    block: str | None = None
    formula: str | None = None
    covariates: str | None = None
    genes: int | list[str] | None = None
    layer: str | None = None
    depth: str | dict[str, str] | None = None
    gene_names: str | None = None
    modalities: str | list[str] | None = None
    min_cells: int = 10
    sets: str = "hallmark"
    q: float = 0.05
    seed: int = 0
    title: str | None = None

    def types(self) -> list[str | None]:
        """List the cell types to analyse one by one; ``[None]`` if cells are taken together."""
        return [label for labels in self.cell_type.values() for label in labels] or [None]

    def cells(self, cell_type: str | None) -> dict[str, Any] | None:
        """Return the selection of the cells of one type, as the option ``subset`` of a model."""
        chosen = dict(self.subset)
        if cell_type is not None:
            chosen[next(iter(self.cell_type))] = cell_type
        return chosen or None


OPTIONS = tuple(f.name for f in fields(Plan))


def make_plan(options: Mapping[str, Any]) -> Plan:
    """Check the options of an analysis.

    Parameters
    ----------
    options : mapping
        Values of the attributes of :class:`Plan`; one target, label or condition may be given as a
        string. None is the default.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        If a value cannot be used.
    """
    for name in options:
        if name not in OPTIONS:
            raise unknown_name("option of an analysis", name, OPTIONS)
    given = {k: v for k, v in options.items() if v is not None}
    if "sample" not in given:
        raise InputError(f"sample= is needed: {SAMPLE}")
    if not given.get("target"):
        raise InputError("target= is needed: the gene whose partners are asked for, or several")
    for name in ("sample", "block", "formula", "covariates", "layer", "gene_names", "title"):
        text(name, given.get(name), optional=True)
    for name in ("target", "condition"):
        given[name] = _names(name, given.get(name, []))
    given["depth"] = _depth(given.get("depth"))
    if not isinstance(given.get("modalities"), str | None):
        given["modalities"] = _names("modalities", given["modalities"])
    given["cell_type"] = _cell_types(given.get("cell_type", {}))
    given["subset"] = _subset(given.get("subset", {}))
    shared = set(given["cell_type"]) & set(given["subset"])
    if shared:
        raise InputError(
            f"{sorted(shared)[0]!r} is in cell_type= and in subset=: name its labels in one of them"
        )
    whole_number("min_cells", given.get("min_cells", 10))
    between_0_and_1("q", given.get("q", 0.05))
    valid_seed(given.get("seed", 0))
    given["sets"] = _sets(given.get("sets", "hallmark"))
    genes = given.get("genes")
    if isinstance(genes, int):
        whole_number("genes", genes)
    given["genes"] = _genes(given.get("genes"))
    return Plan(**given)


def _names(option: str, value: object) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{option} must be a name or a list of names, not {value!r}")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"{option} names {twice[0]!r} twice")
    return list(names)


def _cell_types(value: object) -> dict[str, list[str]]:
    if not isinstance(value, Mapping):
        raise InputError(
            "cell_type must be a mapping from a column of obs to its labels, e.g. "
            f"{{'cell_type': ['B cells', 'NK cells']}}, not {value!r}"
        )
    if len(value) > 1:
        raise InputError(
            f"cell_type names {len(value)} columns, {', '.join(map(repr, value))}: cell types are "
            "the labels of one column; restrict the cells by the others with subset="
        )
    return {str(column): _names("cell_type", labels) for column, labels in value.items()}


def _subset(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(
            f"subset must be a mapping from columns of obs to labels, not {type(value).__name__}: "
            "an analysis can be repeated from its file, which keeps no array; make it a column"
        )
    kinds = (str, bool, int, float)
    out = {}
    for column, labels in value.items():
        several = isinstance(labels, Sequence) and not isinstance(labels, str)
        kept = list(labels) if several else labels
        if not all(isinstance(v, kinds) for v in (kept if several else [kept])):
            raise InputError(f"subset[{column!r}] must be a label or labels, not {labels!r}")
        out[str(column)] = kept
    return out


def _depth(value: object) -> str | dict[str, str] | None:
    if isinstance(value, Mapping) and all(isinstance(v, str) for v in [*value, *value.values()]):
        return dict(value)
    if value is None or isinstance(value, str):
        return value
    raise InputError(
        "depth must be a column of obs, or a mapping from type of features to column, not "
        f"{type(value).__name__}: an analysis can be repeated from its file, which keeps no array"
    )


def _sets(value: object) -> str:
    from hiercorr.enrichment import gene_sets

    if not isinstance(value, str | Path):
        raise InputError(
            f"sets must be 'hallmark', 'none' or the path of a GMT file, not {value!r}"
        )
    if value in ("hallmark", "none"):
        return str(value)
    gene_sets(value)
    return str(Path(value).resolve())


def _genes(value: object) -> int | list[str] | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    return _names("genes", value)


def read_plan(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read ``analysis.toml``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    options : dict
        Options of the analysis.
    data : dict
        ``path`` of the data and their size, ``n_cells`` and ``n_genes``, when they were analysed.

    Raises
    ------
    InputError
        If the file cannot be read or holds something else.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no such file: {str(path)!r}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path.name} cannot be read as TOML: {error}") from error
    options = content.get("analysis")
    if not isinstance(options, dict):
        raise InputError(
            f"{path.name} has no table [analysis]: it is no specification that `hiercorr analyze` "
            "wrote; a model (models/*.toml) is fitted by `hiercorr fit --model`"
        )
    data = content.get("data", {})
    return options, data if isinstance(data, dict) else {}


def as_toml(plan: Plan, data: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Write the specification of an analysis as TOML.

    Parameters
    ----------
    plan : Plan
    data : mapping
        Path and size of the data.
    versions : mapping
        Versions of the software.

    Returns
    -------
    str
    """
    tables = {"data": data, "analysis": asdict(plan), "versions": versions}
    lines = ["# Repeat this analysis: hiercorr analyze analysis.toml -o FOLDER"]
    for name, table in tables.items():
        lines.append(f"\n[{name}]")
        for key, value in table.items():
            if value is not None and value not in ({}, []):
                lines.append(f"{_key(key)} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # Strings, numbers and booleans of JSON are those of TOML, but for DEL, which TOML escapes.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
