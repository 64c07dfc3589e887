"""The steps of an analysis for one cell type and one target gene."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from hiercorr.analysis.features import Features
from hiercorr.analysis.plan import Plan
from hiercorr.analysis.units import Units
from hiercorr.between.pseudobulk import Pseudobulk
from hiercorr.design.nesting import quoted
from hiercorr.enrichment import enrich, gsea
from hiercorr.errors import InputError
from hiercorr.exploratory.cells import CellCorrelation
from hiercorr.exploratory.traps import Traps, traps
from hiercorr.interpretation.evidence import Evidence, evidence
from hiercorr.planning.check import DesignCheck, check_design
from hiercorr.results.result import CorrelationResult
from hiercorr.within.cscore import CSCore
from hiercorr.within.differential import differential

FITS = ("within", "between", "cells")  # saved in the folder, with the differences by condition


@dataclass
class Part:
    """Results for one cell type and one target.

    Attributes
    ----------
    cell_type : str or None
    target : str
    design : DesignCheck or None
    traps : Traps or None
    results : dict of CorrelationResult
        ``within``, ``between``, ``cells`` (exploratory) and ``differential_CONDITION``.
    evidence : Evidence or None
    enrichment : dict of DataFrame
        Tables by caption.
    skipped : dict of str
        Steps that were not possible, and why.
    """

    cell_type: str | None
    target: str
    design: DesignCheck | None = None
    traps: Traps | None = None
    results: dict[str, CorrelationResult] = field(default_factory=dict)
    evidence: Evidence | None = None
    enrichment: dict[str, pd.DataFrame] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """Heading of the report of the part."""
        return f"Partners of {self.target}{f' in {self.cell_type}' if self.cell_type else ''}"


class Steps:
    """Models of one cell type, made when they are first asked for and used for every target.

    Parameters
    ----------
    data : AnnData or path
    plan : Plan
    units : Units
    features : Features
    cell_type : str or None
    """

    def __init__(
        self, data: Any, plan: Plan, units: Units, features: Features, cell_type: str | None
    ) -> None:
        self.data, self.plan, self.units, self.cell_type = data, plan, units, cell_type
        self.features = features
        self._models: dict[str, Any] = {}
        self._sample: Any = units.sample
        self._common: dict[str, Any] = {
            "layer": plan.layer,
            "subset": plan.cells(cell_type),
            "gene_names": plan.gene_names,
            "min_cells": plan.min_cells,
        }
        self._counts: dict[str, Any] = {
            **self._common,
            "depth": plan.depth,
            "genes": plan.genes,
            "modalities": plan.modalities,
        }

    def design(self) -> DesignCheck:
        """Check the design."""
        label = next(iter(self.plan.cell_type), None)
        with self._genes_alone():
            return check_design(
                self.data,
                self._sample,
                cell_type=label if self.cell_type is None else None,
                formula=self.units.formula,
                block=self.units.block,
                main_claim=True,
                review=True,
                depth=self.features.options(self.plan)["depth"],
                **self._common,
            )

    def traps(self, target: str) -> Traps:
        """Measure what dropout, depth and cells as units do."""
        options = self._common | self.features.options(self.plan, target)
        with self._genes_alone():
            return traps(
                self.data,
                self._sample,
                target,
                block=self.units.block,
                seed=self.plan.seed,
                **options,
            )

    def fit(self, name: str, target: str) -> CorrelationResult:
        """Fit one of the models.

        Parameters
        ----------
        name : str
            ``"within"``, ``"between"``, ``"cells"`` or ``"differential_CONDITION"``.
        target : str

        Returns
        -------
        CorrelationResult
        """
        if name.startswith("differential_"):
            return self._difference(name.removeprefix("differential_"), target)
        if name == "cells":
            self.features.options(self.plan, target)  # raises an error if the target is no gene
        if name not in self._models:
            self._models[name] = getattr(self, f"_{name}")()
        options = {"per_sample": True} if name == "within" else {}
        return self._models[name].fit(target=target, progress=False, **options)

    @contextmanager
    def _genes_alone(self) -> Iterator[None]:
        """Read genes without a warning that others are left out, if the fits have them."""
        with warnings.catch_warnings():
            if self.plan.modalities is not None:
                warnings.filterwarnings("ignore", "features of other types than")
            yield

    def _within(self) -> CSCore:
        return CSCore(
            self.data,
            self._sample,
            covariates=self.plan.covariates,
            block=self.units.block,
            **self._counts,
        )

    def _between(self) -> Pseudobulk:
        return Pseudobulk(
            self.data,
            self._sample,
            formula=self.units.formula,
            block=self.units.block,
            **self._counts,
        )

    def _cells(self) -> CellCorrelation:
        options = self._common | self.features.options(self.plan)
        with self._genes_alone():
            return CellCorrelation(self.data, self._sample, **options)

    def _difference(self, condition: str, target: str) -> CorrelationResult:
        plan, units = self.plan, self.units
        formula, block = plan.formula, units.block
        if condition in units.within_donors:
            block = plan.sample
        elif units.within_donors:  # donors are compared, adjusted for what varies within them
            terms = " + ".join(map(quoted, units.within_donors))
            formula, block = f"{formula} + {terms}" if formula else f"~ {terms}", None
        return differential(
            self.data,
            plan.sample,
            condition,
            formula=formula,
            block=block,
            target=target,
            progress=False,
            **self._counts,
        )


def follow(part: Part, plan: Plan) -> None:
    """Add evidence and enrichment, which follow from the fits, to a part."""
    results = part.results
    if "within" in results and "between" in results:
        attempt(part, "evidence", lambda: _evidence(part, plan))
    if plan.sets == "none" or "within" not in results:
        return
    within, sets = results["within"], plan.sets
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "Gene sets of the positive partners": partial(
            enrich, within, sets=sets, q=plan.q, direction="positive"
        ),
        "Gene sets of the negative partners": partial(
            enrich, within, sets=sets, q=plan.q, direction="negative"
        ),
        "Gene sets along the ranking of all genes": partial(
            gsea, within, sets=sets, seed=plan.seed
        ),
    }
    for caption, make in tables.items():
        attempt(part, caption, partial(_add, part, caption, make))


def _evidence(part: Part, plan: Plan) -> None:
    r = part.results
    part.evidence = evidence(
        part.target, r["within"], r["between"], exploratory=r.get("cells"), q=plan.q
    )


def _add(part: Part, caption: str, make: Callable[[], pd.DataFrame]) -> None:
    part.enrichment[caption] = make()


def attempt(part: Part, name: str, step: Callable[[], None]) -> None:
    """Take a step; what the data do not allow is noted, and the analysis goes on.

    Parameters
    ----------
    part : Part
    name : str
        Name of the step, in the notes.
    step : callable
        Adds what it makes to the part.
    """
    try:
        step()
    except (InputError, ImportError) as error:
        part.skipped[name] = str(error)
