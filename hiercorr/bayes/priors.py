"""Priors as data: read from ``models/bayesian.toml``, overridden by an argument or a file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.errors import InputError, unknown_name
from hiercorr.kernels import bayes as kernels
from hiercorr.specification import read_specification

Array = NDArray[np.float64]

# family -> code in the kernels, names of its parameters
FAMILIES = {
    "normal": (kernels.NORMAL, ("mu", "sigma")),
    "lognormal": (kernels.LOGNORMAL, ("median", "sigma")),
    "halfnormal": (kernels.HALFNORMAL, ("sigma",)),
    "lkj": (kernels.LKJ, ("eta",)),
    "beta": (kernels.BETA, ("alpha", "beta")),
}
_ALLOWED = {
    "sd_within": ("lognormal", "halfnormal"),
    "sd_between": ("lognormal", "halfnormal"),
    "z_within": ("lkj", "normal"),
    "z_between": ("lkj", "normal"),
    "tau": ("halfnormal", "lognormal"),
    "share": ("beta",),
    "intercept": ("normal",),
    "coefficient": ("normal",),
    "z_coefficient": ("normal",),
    "omega": ("halfnormal", "lognormal"),
}
_RANGES = {  # in which the densities can be computed, and far outside which no data are
    "eta": (0.5, 1e4),
    "alpha": (0.05, 1e4),
    "beta": (0.05, 1e4),
    "median": (0.01, 5.0),
    "sigma": (0.001, 5.0),
}
_WIDE = ("intercept", "coefficient")  # priors whose sigma may be larger
_CENTRED = ("coefficient", "z_coefficient")  # priors with mean 0
# rows of the kernels' table of priors
SCALARS = ("sd_within", "sd_between", "z_within", "z_between", "tau", "share", "omega")


@dataclass(frozen=True)
class Priors:
    """Prior distribution of every parameter of the model.

    Attributes
    ----------
    table : dict
        Name -> ``{"distribution": ..., parameters}``.
    """

    table: dict[str, dict[str, Any]]

    def row(self, k: int) -> tuple[int, float, float]:
        """Return the family code and the kernels' parameters of the k-th scalar."""
        stated = self.table[SCALARS[k]]
        code, names = FAMILIES[stated["distribution"]]
        values = [float(stated[n]) if n in stated else 0.0 for n in names] + [0.0]
        if code == kernels.LOGNORMAL:
            values[0] = float(np.log(values[0]))
        return code, values[0], values[1]

    @property
    def families(self) -> NDArray[np.int64]:
        """Family codes of all scalars."""
        return np.array([self.row(k)[0] for k in range(len(SCALARS))], np.int64)

    @property
    def parameters(self) -> Array:
        """Parameters of all scalars, shape (n_scalars, 2)."""
        return np.array([self.row(k)[1:] for k in range(len(SCALARS))])

    @property
    def log_sd(self) -> tuple[float, float]:
        """Mean and standard deviation of the normal prior of log sd_within that finds its mode."""
        code, a, b = self.row(kernels.SD_WITHIN)
        return (a, b) if code == kernels.LOGNORMAL else (float(np.log(a)) - 0.6, 1.0)

    @property
    def intercept(self) -> tuple[float | None, float]:
        """Mean (None: the gene's mean in the data) and standard deviation of the intercept."""
        stated = self.table["intercept"]
        return (float(stated["mu"]) if "mu" in stated else None), float(stated["sigma"])

    @property
    def coefficient(self) -> tuple[float, float]:
        """Mean and standard deviation of a coefficient."""
        return 0.0, float(self.table["coefficient"]["sigma"])

    @property
    def z_coefficient(self) -> float:
        """Standard deviation of a slope of the Fisher z, over the range of its covariate."""
        return float(self.table["z_coefficient"]["sigma"])

    def log_density(self, name: str, x: Array) -> Array:
        """Evaluate a log prior density, up to a constant.

        Parameters
        ----------
        name : str
        x : ndarray
            Values; Fisher z for correlations. The density is that of the scale on which the prior
            is stated: of the correlation for LKJ, of a standard deviation, not of its logarithm.
        """
        stated = self.table[name]
        match stated["distribution"]:
            case "normal":
                return -0.5 * ((x - stated.get("mu", 0.0)) / stated["sigma"]) ** 2
            case "lognormal":
                return -0.5 * (np.log(x / stated["median"]) / stated["sigma"]) ** 2 - np.log(x)
            case "halfnormal":
                return -0.5 * (x / stated["sigma"]) ** 2
            case "lkj":
                return -2 * (stated["eta"] - 1) * np.log(np.cosh(x))
            case _:
                return (stated["alpha"] - 1) * np.log(x) + (stated["beta"] - 1) * np.log1p(-x)

    def draw(self, name: str, size: int | tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw from one prior; correlations are drawn as Fisher z."""
        stated = self.table[name]
        match stated["distribution"]:
            case "normal":
                return rng.normal(stated.get("mu", 0.0), stated["sigma"], size)
            case "lognormal":
                return stated["median"] * np.exp(rng.normal(0, stated["sigma"], size))
            case "halfnormal":
                return np.abs(rng.normal(0, stated["sigma"], size))
            case "lkj":
                return np.arctanh(2 * rng.beta(stated["eta"], stated["eta"], size) - 1)
            case _:
                return rng.beta(stated["alpha"], stated["beta"], size)

    def describe(self) -> dict[str, str]:
        """Return each prior as text, e.g. ``"lognormal(median=0.6, sigma=0.6)"``."""
        return {name: _as_text(stated) for name, stated in self.table.items()}


@dataclass(frozen=True)
class Acting:
    """Priors that act in a fit.

    Attributes
    ----------
    priors : Priors
    names : tuple of str
        Names of the parameters that the model has.
    n_genes : int
        Number of genes of the correlation matrices with an LKJ prior. With n genes, the marginal
        prior of each correlation is that of 2 genes with eta + (n - 2) / 2.
    """

    priors: Priors
    names: tuple[str, ...]
    n_genes: int = 2

    def of_z(self, level: str, share: float) -> tuple[float, tuple[float, float]]:
        r"""Return the prior variance of a Fisher z and the prior interval of its correlation.

        Under LKJ, :math:`(1 + \rho) / 2 \sim Beta(\eta, \eta)`, so that z has the variance
        :math:`\psi'(\eta) / 2`.

        Parameters
        ----------
        level : {"within", "between"}
        share : float
            Probability of the interval, which leaves out the same on both sides.
        """
        stated, tails = self.priors.table[f"z_{level}"], [(1 - share) / 2, (1 + share) / 2]
        if stated["distribution"] == "lkj":
            eta = self._marginal(stated)
            low, high = 2 * special.betaincinv(eta, eta, tails) - 1
            return float(special.polygamma(1, eta)) / 2, (float(low), float(high))
        sd = float(stated["sigma"])
        low, high = np.tanh(stated.get("mu", 0.0) + sd * special.ndtri(tails))
        return sd**2, (float(low), float(high))

    def describe(self) -> dict[str, str]:
        """Return each prior as text, see :meth:`Priors.describe`."""
        stated = self.priors.describe()
        found = {name: stated[name] for name in self.names}
        for name in ("z_within", "z_between"):
            table = self.priors.table[name]
            if name in found and self.n_genes > 2 and table["distribution"] == "lkj":
                found[name] += (
                    f" of {self.n_genes} genes, for each correlation "
                    f"lkj(eta={self._marginal(table):g}) of two"
                )
        return found

    def _marginal(self, stated: Mapping[str, Any]) -> float:
        return float(stated["eta"]) + (self.n_genes - 2) / 2


def _as_text(stated: Mapping[str, Any]) -> str:
    values = ", ".join(f"{k}={v:g}" for k, v in stated.items() if k != "distribution")
    return f"{stated['distribution']}({values})"


def read_priors(given: Mapping[str, Any] | str | Path | None = None) -> Priors:
    """Read the default priors and replace those that are given.

    Parameters
    ----------
    given : mapping or path, optional
        ``{"z_between": {"distribution": "normal", "mu": 0, "sigma": 0.5}}``, or a TOML file with
        a table ``[priors]``.

    Returns
    -------
    Priors

    Raises
    ------
    InputError
        If a name, distribution or parameter is unknown, or a scale is not positive.
    """
    table = {k: dict(v) for k, v in read_specification("bayesian").text["priors"].items()}
    if isinstance(given, str | Path):
        given = _from_file(Path(given))
    if not isinstance(given, Mapping | None):
        raise InputError(f"priors must be a mapping or a TOML file, not {type(given).__name__}")
    for name, stated in (given or {}).items():
        if name not in _ALLOWED:
            raise unknown_name("prior", name, _ALLOWED)
        table[name] = _checked(name, stated)
    return Priors(table)


def _from_file(path: Path) -> Mapping[str, Any]:
    if not os.path.isfile(path):
        raise InputError(
            f"priors={str(path)!r}: there is no such file; give a TOML file or a mapping"
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} is not valid TOML: {error}") from error
    if not isinstance(content.get("priors"), Mapping):
        raise InputError(f"{str(path)!r} has no table [priors]")
    return content["priors"]


def _checked(name: str, stated: Any) -> dict[str, Any]:
    if not isinstance(stated, Mapping) or "distribution" not in stated:
        raise InputError(
            f"prior {name!r} must be a table with a distribution, "
            'e.g. {"distribution": "normal", ...}'
        )
    family = stated["distribution"]
    if family not in _ALLOWED[name]:
        raise InputError(f"prior {name!r} must be {' or '.join(_ALLOWED[name])}, not {family!r}")
    names = FAMILIES[family][1]
    for key, value in stated.items():
        if key == "distribution":
            continue
        if key not in names:
            raise unknown_name(f"parameter of prior {name!r} ({family})", key, names)
        is_number = (
            isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
        )
        if not is_number or (key != "mu" and value <= 0):
            kind = "number" if key == "mu" else "positive number"
            raise InputError(f"prior {name!r}: {key} must be a {kind}, not {value!r}")
        low, high = _RANGES.get(key, (-np.inf, np.inf))
        high = 1e3 if name in _WIDE else high
        if key != "mu" and not low <= value <= high:
            raise InputError(
                f"prior {name!r}: {key} must be from {low:g} to {high:g}, not {value!r}"
            )
    if name in _CENTRED and stated.get("mu", 0) != 0:
        raise InputError(
            f"prior {name!r} has mean 0, whatever the covariate: leave out mu={stated['mu']!r}"
        )
    missing = [n for n in names if n not in stated and n != "mu"]
    if missing:
        raise InputError(f"prior {name!r} ({family}) needs {', '.join(missing)}")
    return dict(stated)
