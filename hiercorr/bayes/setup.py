"""What a Bayesian model consists of apart from its counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiercorr.bayes.priors import Acting, Priors, read_priors
from hiercorr.errors import InputError, between_0_and_1

STRUCTURES = ("both", "within", "independent")
MAX_GENES = 20
ROPE = 0.1


@dataclass(frozen=True)
class ZRegression:
    """Covariates of the Fisher z within samples.

    Attributes
    ----------
    formula : str
    names : tuple of str
        Names of the slopes, that is, of all coefficients but the intercept.
    design : ndarray, shape (n_samples, n_slopes)
        Covariates, centred over the samples, so that zeta is the mean of z over the samples, and
        divided by their range.
    centre, scale : ndarray, shape (n_slopes,)
        Means and ranges of the covariates over the samples.
    groups : tuple of str
        Names of the groups, the levels of the factors of the formula.
    group_rows : ndarray, shape (n_groups, n_slopes)
        Centred and scaled covariates of each group, other columns averaged over the samples.
    """

    formula: str
    names: tuple[str, ...]
    design: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    groups: tuple[str, ...]
    group_rows: NDArray[np.float64]

    def coefficients(self, zeta: NDArray, slopes: NDArray) -> NDArray[np.float64]:
        """Return the coefficients, intercept first, from zeta (...) and slopes (..., slope)."""
        stated = slopes / self.scale
        intercept = zeta - stated @ self.centre
        return np.concatenate([intercept[..., None], stated], -1)

    def of_groups(self, zeta: NDArray, slopes: NDArray) -> NDArray[np.float64]:
        """Return the Fisher z of a typical sample of each group, shape (..., group)."""
        return np.asarray(zeta[..., None] + slopes @ self.group_rows.T)


@dataclass(frozen=True)
class CellCovariates:
    """Covariates of cells.

    Attributes
    ----------
    formula : str
    design : ndarray, shape (n_cells, k)
        Covariates, centred in each sample.
    """

    formula: str
    design: NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Covariates of the samples, and blocks of samples that are not independent.

    Attributes
    ----------
    design : ndarray, shape (n_samples, n_coefficients)
        Design matrix, intercept first; the other columns are centred and divided by their range,
        so that neither the origin nor the unit of a covariate matters: the prior of the intercept
        is that of the average sample.
    block : ndarray of int64, shape (n_samples,)
        Block of each sample; all different if samples are independent.
    formula : str
        Formula of the design matrix.
    coefficients : tuple of str
        Names of the coefficients.
    z : ZRegression, optional
        Covariates of the Fisher z within samples. None: there are none.
    centre, scale : tuple of float
        Means and ranges of the columns after the first. Empty: all are 0 and 1.
    """

    design: NDArray[np.float64]
    block: NDArray[np.int64]
    formula: str = "~ 1"
    coefficients: tuple[str, ...] = ("Intercept",)
    z: ZRegression | None = None
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def stated_design(self) -> NDArray[np.float64]:
        """Design matrix of the formula, neither centred nor scaled."""
        design = self.design.copy()
        design[:, 1:] = design[:, 1:] * self._or(self.scale, 1.0) + self._or(self.centre, 0.0)
        return design

    def stated_coefficients(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert coefficients of the centred and scaled design to those of the formula.

        Parameters
        ----------
        values : ndarray, shape (..., n_coefficients, n_genes)

        Returns
        -------
        ndarray
            The same, but the first is the value where all covariates are 0.
        """
        values = np.array(values)
        values[..., 1:, :] /= self._or(self.scale, 1.0)[:, None]
        centre = self._or(self.centre, 0.0)
        values[..., 0, :] -= np.einsum("k,...kg->...g", centre, values[..., 1:, :])
        return values

    def _or(self, values: tuple[float, ...], default: float) -> NDArray[np.float64]:
        return np.array(values) if values else np.full(self.design.shape[1] - 1, default)

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(self.block.max()) + 1

    @property
    def unit(self) -> NDArray[np.int64]:
        """Unit of each sample: samples of one unit share their deviation from the fitted z.

        It is the block, unless a covariate of z varies within blocks: its coefficient is then a
        difference between samples of one block, which must have deviations of their own, or the
        cells would be its only error.
        """
        if self.z is not None and self._varies_within_blocks(self.z.design):
            return np.arange(len(self.block))
        return self.block

    def _varies_within_blocks(self, values: NDArray[np.float64]) -> bool:
        first = np.unique(self.block, return_index=True)[1]
        return not np.allclose(values, values[first][self.block])

    @property
    def blocked(self) -> bool:
        """Whether some samples share a block."""
        return self.n_blocks < len(self.block)


@dataclass(frozen=True)
class Setup:
    """A model without its counts; every fit and predictive check receives both.

    Attributes
    ----------
    population : Population
    priors : Priors
    heterogeneity : bool
        Whether the correlation within samples varies between samples.
    structure : {"both", "within", "independent"}
        Levels at which genes may correlate.
    sample : str, optional
        Column of ``obs`` with the samples, for the attributes of results.
    sd_per_sample : bool
        Whether the standard deviations within samples vary between samples.
    covariates : CellCovariates, optional
        Covariates of cells.
    """

    population: Population
    priors: Priors
    heterogeneity: bool = True
    structure: str = "both"
    sample: str | None = None
    sd_per_sample: bool = False
    covariates: CellCovariates | None = None

    @property
    def z_regression(self) -> ZRegression | None:
        """Covariates of the Fisher z within samples, unless the structure fixes it at 0."""
        return None if self.structure == "independent" else self.population.z

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of every result of the model."""
        z = self.population.z
        return {
            "model": "BayesianCorrelation",
            "formula": self.population.formula,
            "correlation_formula": None if z is None else z.formula,
            "sd_per_sample": int(self.sd_per_sample) or None,
            "covariates": None if self.covariates is None else self.covariates.formula,
            "z_units": None if z is None else self._z_units,
            "structure": self.structure,
            "sample_column": self.sample,
        }

    @property
    def _has_coefficients(self) -> bool:
        return self.population.design.shape[1] > 1 or self.covariates is not None

    @property
    def _z_units(self) -> str:
        same = np.array_equal(self.population.unit, self.population.block)
        return "donors" if self.population.blocked and same else "samples"

    def acting(self, method: str = "marginal", n_genes: int = 2) -> Acting:
        """Return the priors that act in a fit.

        Parameters
        ----------
        method : {"marginal", "latent", "grids"}
            ``"grids"``: that of :meth:`hiercorr.BayesianCorrelation.fit_many`, in which
            coefficients have flat priors.
        n_genes : int
            Number of genes whose correlation matrices have a prior: all those of the latent model,
            two of the others.
        """
        within = self.structure != "independent"
        has = {
            "sd_within": True,
            "sd_between": True,
            "z_within": within,
            "z_between": self.structure == "both",
            "tau": self.heterogeneity and within and method != "latent",
            "share": self.population.blocked,
            "intercept": method != "grids",
            "coefficient": method != "grids" and self._has_coefficients,
            "z_coefficient": self.z_regression is not None,
            "omega": self.sd_per_sample,
        }
        return Acting(self.priors, tuple(k for k, v in has.items() if v), n_genes)

    def check_pairs_only(self, caller: str) -> None:
        """Raise an error if an option was chosen that only the posteriors of pairs have.

        Parameters
        ----------
        caller : str
            Method that does not have it, for the message.
        """
        given = {
            "correlation_formula=": self.population.z is not None,
            "sd_per_sample=True": self.sd_per_sample,
            "covariates=": self.covariates is not None,
        }
        for name, stated in given.items():
            if stated:
                raise InputError(
                    f"{caller} cannot be combined with {name}: use method='marginal', the default, "
                    "or build the model without it"
                )

    def check_latent(self) -> None:
        """Raise an error if the latent model cannot have this setup, or would ignore part of it."""
        self.check_pairs_only("method='latent'")
        if self.population.blocked or self.structure != "both":
            raise InputError(
                "method='latent' cannot be combined with block= or structure=: use "
                "method='marginal'"
            )
        if self.heterogeneity:
            raise InputError(
                "method='latent' has one correlation within all samples: build the model with "
                "heterogeneity=False, or use method='marginal'"
            )
        for name in ("z_within", "z_between"):
            if self.priors.table[name]["distribution"] != "lkj":
                raise InputError(
                    f"method='latent' needs an LKJ prior of {name!r}: use method='marginal'"
                )

    def check_grids(self) -> None:
        """Raise an error if a fit on grids would ignore part of this setup."""
        self.check_pairs_only("fit_many")
        if self.population.blocked or self.structure != "both":
            raise InputError(
                "fit_many has no block= or structure=: select one sample per donor with subset=, "
                "or use fit()"
            )
        shipped = read_priors().table
        for name in ("intercept", "coefficient"):
            if self.priors.table[name] != shipped[name]:
                raise InputError(
                    f"fit_many has flat priors of the coefficients: leave out the prior of {name!r}"
                    ", or use fit()"
                )
        if self.priors.table["sd_within"]["distribution"] != "lognormal":
            raise InputError(
                "fit_many needs a lognormal prior of 'sd_within': change it, or use fit()"
            )

    def check_priors(self) -> None:
        """Raise an error if a prior was changed for a parameter that the model does not have."""
        absent = {
            "tau": (not self.heterogeneity, "heterogeneity=True"),
            "share": (not self.population.blocked, "block="),
            "coefficient": (not self._has_coefficients, "a covariate in formula= or covariates="),
            "z_within": (self.structure == "independent", "structure='both' or 'within'"),
            "z_between": (self.structure != "both", "structure='both'"),
            "z_coefficient": (self.z_regression is None, "correlation_formula="),
            "omega": (not self.sd_per_sample, "sd_per_sample=True"),
        }
        shipped = read_priors().table
        for name, (is_absent, needs) in absent.items():
            if is_absent and self.priors.table[name] != shipped[name]:
                raise InputError(
                    f"the prior of {name!r} has no effect without {needs}: leave it out"
                )


@dataclass(frozen=True)
class Intervals:
    """Credible intervals and region of practical equivalence.

    Attributes
    ----------
    confidence : float
        Probability of the highest-density intervals.
    rope : float
        Largest absolute correlation that counts as practically zero.
    """

    confidence: float = 0.95
    rope: float = ROPE

    def __post_init__(self) -> None:
        """Check both options."""
        between_0_and_1("confidence", self.confidence)
        between_0_and_1("rope", self.rope)
