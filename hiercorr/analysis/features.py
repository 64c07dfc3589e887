"""Features of an analysis: which of them are genes, for the steps that are of genes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from hiercorr.analysis.plan import Plan
from hiercorr.counts.sources import Source
from hiercorr.errors import InputError


@dataclass(frozen=True)
class Features:
    """Features of an analysis.

    Attributes
    ----------
    genes : Index
        Names of the genes, which the check of the design, traps and cell-level correlation read.
    gene_type : str or None
        Their type.
    analysed : bool
        Whether they are among the features of the fits.
    """

    genes: pd.Index
    gene_type: str | None
    analysed: bool = True

    @classmethod
    def of(cls, source: Source, plan: Plan) -> tuple[Features, Source]:
        """Return the features, and the source of those of the plan.

        Parameters
        ----------
        source : Source
            As it was opened: of genes, if there are several types.
        plan : Plan
        """
        asked = source if plan.modalities is None else source.of_types(plan.modalities)
        analysed = bool(source.genes.isin(asked.genes).all())
        return cls(source.genes, source.gene_kind, analysed), asked

    def options(self, plan: Plan, target: str | None = None) -> dict[str, Any]:
        """Return the options ``depth`` and ``genes`` of a step that is of genes alone.

        Parameters
        ----------
        plan : Plan
        target : str, optional

        Raises
        ------
        InputError
            If the target is no gene, or genes are not analysed.
        """
        if not self.analysed:
            raise InputError(
                f"this step is of genes, and modalities={plan.modalities!r} are other features"
            )
        if target is not None and target not in self.genes:
            raise InputError(f"this step is of genes, and {target!r} is another feature")
        depth: Any = plan.depth
        if isinstance(depth, dict) and plan.modalities is not None:
            depth = depth.get(str(self.gene_type))
        genes: Any = plan.genes
        if isinstance(genes, list):
            genes = [gene for gene in genes if gene in self.genes]
        return {"depth": depth, "genes": genes}
