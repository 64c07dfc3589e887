"""Model specifications: a TOML file that describes an analysis, for ``hiercorr fit``."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from hiercorr.errors import InputError, unknown_name

_TABLES = {"equations", "data", "fit", "assumptions", "limits", "references", "priors"}
_TEXTS = {"name", "title", "model", "question", "estimand"}
_CELLS = {
    "sample",
    "genes",
    "layer",
    "depth",
    "subset",
    "gene_names",
    "min_cells",
    "small_samples",
}
_COMMON = {"target", "precision", "confidence", "seed"}
# options of the constructor and of fit, for each model
KEYS = {
    "CSCore": (
        _CELLS | {"covariates", "block", "modalities", "depth_adjust"},
        _COMMON
        | {
            "pairs",
            "estimator",
            "uncertainty",
            "weights",
            "per_sample",
            "standardize",
            "covariate_level",
            "adjust",
            "n_bootstrap",
        },
    ),
    "Pseudobulk": (
        _CELLS
        | {
            "cell_type",
            "formula",
            "normalization",
            "block",
            "block_method",
            "min_counts",
            "modalities",
        },
        _COMMON | {"pairs", "method", "contrasts", "permutations", "interaction", "moderated"},
    ),
    "AcrossCellTypes": (
        (_CELLS - {"genes"})
        | {
            "cell_type",
            "types",
            "genes_a",
            "genes_b",
            "pairs",
            "formula",
            "normalization",
            "block",
            "block_method",
            "min_counts",
        },
        (_COMMON - {"target"}) | {"method", "permutations", "moderated"},
    ),
    "differential": (
        _CELLS | {"condition", "formula", "block", "contrast", "modalities"},
        {
            "target",
            "pairs",
            "method",
            "uncertainty",
            "permutations",
            "precision",
            "confidence",
            "seed",
        },
    ),
    "by_cell_type": (
        _CELLS | {"covariates", "block", "cell_type", "types", "modalities", "depth_adjust"},
        _COMMON | {"pairs", "uncertainty", "weights", "family", "per_sample", "n_bootstrap"},
    ),
    "signature": (
        _CELLS | {"covariates", "block", "depth_adjust"},
        {"members", "name", "weights", "uncertainty", "confidence"},
    ),
    "score": (
        _CELLS | {"covariates", "block", "depth_adjust"},
        {"score", "name", "sets", "weights", "uncertainty", "confidence"},
    ),
    "modules": (
        _CELLS | {"covariates", "block", "depth_adjust"},
        {"sets", "membership", "weights", "uncertainty", "confidence"},
    ),
    "differential_correlation": (
        _CELLS | {"condition", "formula", "block", "contrast"},
        {"sets", "weights", "confidence"},
    ),
    "module_traits": (
        _CELLS | {"formula", "normalization", "block", "block_method", "min_counts"},
        {"sets", "traits", "method", "weights", "permutations", "confidence", "seed"},
    ),
    "direct_partners": (
        _CELLS | {"covariates", "block", "depth_adjust"},
        {"scale", "shrinkage", "min_correlation", "n_bootstrap", "confidence", "seed"},
    ),
    "power": (
        set(),
        {
            "question",
            "samples",
            "cells",
            "mean",
            "rho",
            "heterogeneity",
            "power",
            "alpha",
            "tests",
            "within_sd",
            "between_sd",
            "depth_sd",
            "baseline",
            "paired",
            "covariates",
            "uncertainty",
            "correlated",
            "samples_per_donor",
        },
    ),
    "BayesianCorrelation": (
        _CELLS
        | {
            "formula",
            "covariates",
            "correlation_formula",
            "block",
            "heterogeneity",
            "sd_per_sample",
            "structure",
            "priors",
        },
        {
            "target",
            "draws",
            "tune",
            "chains",
            "sampler",
            "target_accept",
            "seed",
            "method",
            "confidence",
        },
    ),
}


@dataclass(frozen=True)
class Specification:
    """Specification of an analysis.

    Attributes
    ----------
    name, title, model, question, estimand : str
    data, fit : dict
        Arguments of the model and of its ``fit``.
    text : dict
        Equations, assumptions, limits, references and priors, for the documentation.
    """

    name: str
    title: str
    model: str
    question: str
    estimand: str
    data: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)


def shipped_models() -> list[str]:
    """List the names of the specifications shipped with the package."""
    return sorted(
        p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml")
    )


def _folder() -> Any:
    installed = resources.files("hiercorr") / "_models"
    # In a checkout the files are at the top level, for users to read; the wheel contains a copy.
    return installed if installed.is_dir() else Path(__file__).parent.parent / "models"


def read_specification(source: str | Path) -> Specification:
    """Read a specification.

    Parameters
    ----------
    source : str or Path
        A TOML file, or the name of a shipped model, e.g. ``"within"`` or ``"models/within.toml"``.

    Returns
    -------
    Specification

    Raises
    ------
    InputError
        If the file is not TOML or contains an unknown key.
    """
    content = _read(source)
    model = _check(content, str(source))
    prose: tuple[str, ...] = ("equations", "assumptions", "limits", "references", "priors")
    text: dict[str, Any] = {k: content[k] for k in prose if k in content}
    if model == "BayesianCorrelation" and "priors" in content:
        content["data"] = {**content.get("data", {}), "priors": content["priors"]}
    return Specification(
        **{k: str(content.get(k, "")) for k in sorted(_TEXTS)},
        data=dict(content.get("data", {})),
        fit=dict(content.get("fit", {})),
        text=text,
    )


def _read(source: str | Path) -> dict[str, Any]:
    if not isinstance(source, str | Path):
        raise InputError(f"source must be a TOML file or the name of a model, not {source!r}")
    path = Path(source)
    if not os.path.isfile(path):
        name = path.name.removesuffix(".toml")
        if name not in shipped_models():
            raise unknown_name(
                "model specification (no such file either)", str(source), shipped_models()
            )
        path = _folder() / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{str(source)!r} is not valid TOML: {error}") from error


def _check(content: dict[str, Any], source: str) -> str:
    """Check the keys of a specification and return its model."""
    for key in content:
        if key not in _TABLES | _TEXTS:
            raise unknown_name(f"key in {source!r}", key, sorted(_TABLES | _TEXTS))
    model = content.get("model")
    if not isinstance(model, str) or model not in KEYS:
        raise unknown_name(f"model in {source!r}", str(model), sorted(KEYS))
    for table in _TABLES - {"references"}:
        if not isinstance(content.get(table, {}), dict):
            raise InputError(
                f"{table!r} in {source!r} must be a table, [{table}], not {content[table]!r}"
            )
    for table, known in zip(("data", "fit"), KEYS[model], strict=True):
        for key in content.get(table, {}):
            if key not in known:
                raise unknown_name(f"key in [{table}] of {source!r}", key, sorted(known))
    return model
