"""Options of a fit between samples, checked against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hiercorr.errors import (
    MAX_REPEATS,
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
MODERATED = ("plain", "trend", "robust", "trend+robust")
MIN_MODERATED = 20  # genes from which a prior is estimated unless moderation is requested
REGRESSIONS = ("ols", "hc3", "voom", "negative_binomial")
_INTERACTIONS = ("ols", "hc3", "voom")
_MODERATED = ("ols", "voom")
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
    moderated: Any = None

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
        whole_number("permutations", self.permutations, optional=True, maximum=MAX_REPEATS)
        one_of("precision", self.precision, tiling.DTYPE)
        between_0_and_1("confidence", self.confidence)
        valid_seed(self.seed)
        true_or_false("progress", self.progress, optional=True)
        moderation_of(self.moderated)

    def check(self, model: BlockFacts) -> None:
        """Raise an error for options that do not fit the model or each other."""
        self._check_blocks(model)
        self._check_interaction()
        if moderation_of(self.moderated) is not None:
            self._check_moderated(model)
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

    def moderation(self, model: BlockFacts, n_genes: int) -> str | None:
        """Return the kind of moderation, ``"plain"`` etc., or None.

        Parameters
        ----------
        model : BlockFacts
        n_genes : int
            Number of genes with a residual variance.
        """
        if self.moderated is None:
            possible = self._moderation_refused(model) is None
            return "plain" if possible and n_genes >= MIN_MODERATED else None
        kind = moderation_of(self.moderated)
        if kind is not None and n_genes < 3:
            raise InputError(
                f"moderated={self.moderated!r} borrows information from the variances of other "
                f"genes, and {n_genes} genes have one: at least 3 are needed; leave it out"
            )
        return kind

    def _check_moderated(self, model: BlockFacts) -> None:
        reason = self._moderation_refused(model)
        if reason is not None:
            raise InputError(f"moderated={self.moderated!r} {reason}")

    def _moderation_refused(self, model: BlockFacts) -> str | None:
        """Return the reason why the variances cannot be moderated, or None."""
        if self.target is None:
            return (
                "needs target=: the moderated tests of a pair differ between its directions, and "
                "the larger of the two p-values has less power than the ordinary test; name a "
                "target or leave it out"
            )
        if self.method not in _MODERATED:
            return f"requires method 'ols' or 'voom', not {self.method!r}: leave it out"
        if model.method == "cluster":
            return (
                "cannot be combined with block_method='cluster', whose standard errors use no "
                "common variance: use block_method='fixed' or 'correlation', or leave it out"
            )
        if self.permutations is not None:
            return (
                "cannot be combined with permutations=, which need no variance: leave one of them "
                "out"
            )
        return None

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


def moderation_of(value: Any) -> str | None:
    """Return the kind of moderation that a value of ``moderated=`` names, or None.

    Raises
    ------
    InputError
        If the value is unknown.
    """
    if value is None or value is False:
        return None
    if value is True:
        return "plain"
    parts = value.split("+") if isinstance(value, str) else value
    if isinstance(parts, list | tuple) and parts and len(set(map(str, parts))) == len(parts):
        named = [p.strip() if isinstance(p, str) else p for p in parts]
        kind = "+".join(k for k in ("trend", "robust") if k in named)
        if all(p in ("trend", "robust") for p in named):
            return kind
    raise InputError(
        f"moderated must be True, False, None, 'trend', 'robust' or 'trend+robust', not {value!r}"
    )
