"""Options of a fit between samples, checked against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hiercorr.errors import (
    InputError,
    between_0_and_1,
    one_of,
    text,
    true_or_false,
    valid_seed,
    whole_number,
    without_effect,
)
from hiercorr.results import tiling

PSEUDOBULK_METHODS = (
    "pearson",
    "spearman",
    "ols",
    "hc3",
    "voom",
    "negative_binomial",
    "corrected",
)
BLOCK_METHODS = ("fixed", "correlation", "cluster")
REGRESSIONS = ("ols", "hc3", "voom", "negative_binomial")
_INTERACTIONS = ("ols", "hc3", "voom")
_PERMUTED = ("pearson", "spearman", "ols")


@dataclass(frozen=True)
class BlockFacts:
    """Properties of a model that limit the options of its fits.

    Attributes
    ----------
    block : str or None
        Column with the blocks.
    method : str or None
        How blocks enter.
    n_blocks : int
        Number of blocks.
    residual_df : int
        Samples minus coefficients.
    has_cells : bool
        Whether the cells behind the sums can be read.
    """

    block: str | None
    method: str | None
    n_blocks: int
    residual_df: int
    has_cells: bool


@dataclass(frozen=True)
class BetweenOptions:
    """Options of :meth:`hiercorr.Pseudobulk.fit`, which documents them.

    Raises
    ------
    InputError
        If an option has a wrong type or value.
    """

    method: str
    target: str | None
    interaction: str | None
    contrasts: Mapping[str, str | Sequence[str]]
    permutations: int | None
    precision: str
    confidence: float
    seed: Any
    progress: bool | None

    def __post_init__(self) -> None:
        """Check every option alone."""
        one_of("method", self.method, PSEUDOBULK_METHODS)
        text("target", self.target, optional=True)
        text("interaction", self.interaction, optional=True)
        if not isinstance(self.contrasts, Mapping):
            raise InputError(
                "contrasts must map names to linear combinations of coefficients, not "
                f"{self.contrasts!r}"
            )
        for name in self.contrasts:
            text("contrasts: name", name)
        whole_number("permutations", self.permutations, optional=True)
        one_of("precision", self.precision, tiling.DTYPE)
        between_0_and_1("confidence", self.confidence)
        valid_seed(self.seed)
        true_or_false("progress", self.progress, optional=True)

    def check(self, model: BlockFacts) -> None:
        """Raise an error for options that do not fit the model or each other."""
        self._check_blocks(model)
        self._check_interaction()
        if self.permutations is not None:
            self._check_permutations(self.permutations, model)
        if self.method == "corrected":
            if not model.has_cells:
                raise InputError(
                    "method='corrected' needs the cells: pass them instead of aggregated counts"
                )
            if model.residual_df < 3:
                raise InputError(
                    "method='corrected' needs at least 3 residual degrees of freedom: more samples "
                    "or fewer terms"
                )
        if self.method == "spearman":
            without_effect(contrasts=(dict(self.contrasts), {}, "a method with coefficients"))

    def _check_blocks(self, model: BlockFacts) -> None:
        regression = self.method in REGRESSIONS
        if self.target is None and (regression or model.method == "cluster"):
            what = f"method={self.method!r}" if regression else "block_method='cluster'"
            raise InputError(
                f"{what} regresses each gene on a target, whose p-value is not symmetric: name it "
                "with target="
            )
        if model.method == "cluster" and self.method != "ols":
            raise InputError(
                f"block_method='cluster' requires method='ols', not {self.method!r}; or use "
                "block_method='fixed'"
            )
        if model.method == "correlation" and self.method not in ("pearson", "ols", "voom"):
            raise InputError(
                f"block_method='correlation' cannot be combined with method={self.method!r}; use "
                "block_method='fixed'"
            )
        if model.method == "cluster" and model.n_blocks < 3:
            raise InputError(
                f"block {model.block!r} has fewer than 3 values: no standard error by cluster can "
                "be estimated"
            )

    def _check_interaction(self) -> None:
        if self.interaction is None:
            return
        if self.target is None or self.method not in _INTERACTIONS:
            raise InputError(
                f"interaction={self.interaction!r} needs target= and method 'ols', 'hc3' or 'voom'"
            )
        if self.permutations is not None:
            raise InputError(
                "permutations= cannot be combined with interaction=: leave one of them out"
            )

    def _check_permutations(self, n: int, model: BlockFacts) -> None:
        if n < 19:
            raise InputError(f"permutations={n}: at least 19 are needed for a p-value of 0.05")
        if self.method not in _PERMUTED:
            raise InputError(
                f"permutations= requires 'pearson', 'spearman' or 'ols', not {self.method!r}"
            )
        if model.method in ("correlation", "cluster"):
            raise InputError(
                "samples can only be permuted within their block: use block_method='fixed'"
            )
