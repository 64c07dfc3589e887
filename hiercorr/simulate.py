"""Simulation of counts from the hierarchical model, with the true parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special, stats

from hiercorr.errors import (
    InputError,
    number,
    numbers,
    one_of,
    valid_seed,
    whole_number,
    without_effect,
)

Array = NDArray[np.float64]
DISTRIBUTIONS = ("lognormal", "gamma")
_MOST, _LARGEST_SD = 10_000_000, 10.0  # of samples, genes and cells per sample; of logarithms
_DONOR_SHARE = 0.5  # default
_LARGEST_COUNT = float(np.iinfo(np.int32).max)
_RESERVED = ("sample", "depth")  # columns of obs


def simulate_counts(
    n_samples: int = 8,
    n_cells: int | Sequence[int] = 300,
    n_genes: int = 40,
    *,
    mean: ArrayLike = 1.0,
    within: ArrayLike = 0.0,
    between: ArrayLike = 0.0,
    within_sd: ArrayLike = 0.8,
    between_sd: ArrayLike = 0.4,
    heterogeneity: float = 0.0,
    distribution: str = "lognormal",
    cell_imbalance: float = 0.0,
    depth_mean: float = 10_000.0,
    depth_sd: float = 0.4,
    depth_shift: float = 0.2,
    covariates: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    donor: Sequence[str] | None = None,
    donor_share: float = _DONOR_SHARE,
    seed: int | Sequence[int] | np.random.Generator | None = None,
) -> tuple[ad.AnnData, xr.Dataset]:
    r"""Simulate counts of cells nested in samples.

    .. math:: x_{ij} \sim Poisson(s_i z_{ij}),\quad z_{ij} = \mu_{cj}\,e_{ij},\quad
              \log \mu_{cj} = \log m_j - \tfrac12 b_j^2 + b_j B_{cj}
              + \textstyle\sum_k C_{ck}\beta_{kj}

    B is standard normal over samples with correlation `between`; e has mean 1 and is a Gaussian
    copula over cells with lognormal or gamma margins. If a correlation is one number, it is that
    of the gene pairs (0, 1), (2, 3), ...

    Parameters
    ----------
    n_samples : int
        Number of samples.
    n_cells : int or sequence of int
        Cells per sample (their mean, with `cell_imbalance`).
    n_genes : int
        Number of genes.
    mean : float or array, shape (n_genes,)
        Expected count in a cell of average depth.
    within, between : float or array, shape (n_genes, n_genes)
        Correlations within and between samples: of z within a sample (not of its logarithm), and
        of log mu. A number is the correlation of each pair (others 0), a matrix is a correlation
        matrix.
    within_sd, between_sd : float or array, shape (n_genes,)
        Standard deviation of log expression over cells (gamma: the coefficient of variation is
        that of a lognormal with this standard deviation) and of log mean over samples.
    heterogeneity : float
        Standard deviation over samples of atanh(within), drawn for each pair and sample.
    distribution : {"lognormal", "gamma"}
        Distribution of e.
    cell_imbalance : float
        Standard deviation of the log number of cells per sample; 0: equal samples.
    depth_mean, depth_sd, depth_shift : float
        Mean sequencing depth in counts, and standard deviations of log depth over cells and over
        samples.
    covariates : mapping, optional
        ``{name: (values, effects)}`` with one value per sample (numbers, or two labels) and the
        log fold change of each gene (or one for all) per unit or for the second label.
    donor : sequence of str, optional
        Donor of each sample; samples of one donor share `donor_share` of the variance between
        samples.
    donor_share : float
        Proportion of the variance between samples that is between donors.
    seed : int, sequence of int or Generator, optional
        Seed of the random numbers.

    Returns
    -------
    AnnData
        Counts (CSR); ``obs``: sample, depth, donor if given, and the covariates.
    xarray.Dataset
        ``within`` (gene, partner): correlation of z, as the expectation over samples;
        ``sample_within`` (sample, gene, partner): that of the simulated samples; ``between``
        (gene, partner) of log mu; ``mu`` (sample, gene); ``overdispersion`` (gene).

    Raises
    ------
    InputError
        If an option is invalid or has no effect, or no data can have these correlations.

    Examples
    --------
    >>> from hiercorr.simulate import simulate_counts
    >>> adata, truth = simulate_counts(n_samples=4, n_cells=50, n_genes=6, within=0.5, seed=1)
    >>> adata.shape, round(float(truth["within"][0, 1]), 3)
    ((200, 6), 0.5)
    """
    one_of("distribution", distribution, DISTRIBUTIONS)
    whole_number("n_samples", n_samples, maximum=_MOST)
    whole_number("n_genes", n_genes, 2, maximum=_MOST)
    for name, value in (
        ("heterogeneity", heterogeneity),
        ("cell_imbalance", cell_imbalance),
        ("depth_sd", depth_sd),
        ("depth_shift", depth_shift),
    ):
        number(name, value, 0, _LARGEST_SD)
    number("depth_mean", depth_mean)
    if depth_mean <= 0:
        raise InputError(f"depth_mean must be positive, not {depth_mean!r}")
    number("donor_share", donor_share, 0, 1)
    if donor is None:
        without_effect(donor_share=(float(donor_share), _DONOR_SHARE, "donor="))
    rng = _generator(seed)
    cells = _cell_numbers(n_samples, n_cells, cell_imbalance, rng)
    m = _per_gene(mean, n_genes, "mean")
    sd_b = _per_gene(between_sd, n_genes, "between_sd")
    copula = _Copula(_per_gene(within_sd, n_genes, "within_sd"), distribution, np.ndim(within) == 0)
    target = _correlation(within, n_genes, "within")
    between_matrix = _correlation(between, n_genes, "between")
    effect, columns = _covariate_effects(covariates, n_samples, n_genes)

    level = rng.standard_normal((n_samples, n_genes))
    if donor is not None:
        columns["donor"] = _donors(donor, n_samples)
        level = _share_donors(level, columns["donor"], donor_share, rng)
    log_mu = np.log(m) - sd_b**2 / 2 + sd_b * (level @ _root(between_matrix).T)
    mu = np.exp(log_mu + effect)
    natural = np.empty((n_samples, n_genes, n_genes))
    shift = np.exp(rng.normal(0, depth_shift, n_samples)) if depth_shift else np.ones(n_samples)
    counts, depths = [], []
    for c in range(n_samples):
        wanted = _vary(target, heterogeneity, copula.pairs_only, rng)
        latent = copula.latent(wanted)
        natural[c] = wanted if copula.pairs_only else copula.natural(latent)
        g = copula.normals(latent, int(cells[c]), rng)
        depth = np.exp(rng.normal(0, depth_sd, cells[c]) - depth_sd**2 / 2) * shift[c]
        rate = depth[:, None] * mu[c] * copula.margin(g)
        if not rate.max() < _LARGEST_COUNT:
            raise InputError(
                f"mean={_shown(mean)} gives expected counts of up to {rate.max():.3g}, and counts "
                f"end at {_LARGEST_COUNT:.3g}: choose a smaller mean or standard deviation"
            )
        counts.append(sparse.csr_matrix(rng.poisson(rate)))
        depths.append(depth * depth_mean)
    names = [f"gene{j}" for j in range(n_genes)]
    samples = [f"s{c + 1:0{len(str(n_samples))}d}" for c in range(n_samples)]
    obs = pd.DataFrame(
        {"sample": pd.Categorical(np.repeat(samples, cells)), "depth": np.concatenate(depths)}
    )
    for name, values in columns.items():
        obs[name] = np.repeat(values, cells)
    obs.index = pd.Index([f"cell{i}" for i in range(len(obs))])
    adata = ad.AnnData(
        sparse.vstack(counts, format="csr").astype(np.int32), obs=obs, var=pd.DataFrame(index=names)
    )
    coords = {"gene": names, "partner": names, "sample": samples}
    truth = xr.Dataset(
        {
            "within": (("gene", "partner"), _population(target, heterogeneity)),
            "sample_within": (("sample", "gene", "partner"), natural),
            "between": (("gene", "partner"), between_matrix),
            "mu": (("sample", "gene"), mu),
            "overdispersion": ("gene", np.expm1(copula.sd**2)),
        },
        coords,
    )
    return adata, truth


def natural_correlation(latent: ArrayLike, sd_a: ArrayLike, sd_b: ArrayLike) -> Array:
    r"""Convert the correlation of the logarithms of two lognormal variables to their own.

    .. math:: \frac{e^{\rho\,\sigma_a\sigma_b} - 1}
              {\sqrt{(e^{\sigma_a^2} - 1)(e^{\sigma_b^2} - 1)}}

    Parameters
    ----------
    latent : array_like
        Correlation of the logarithms.
    sd_a, sd_b : array_like
        Standard deviations of the logarithms.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> from hiercorr.simulate import natural_correlation
    >>> round(float(natural_correlation(0.5, 1.0, 1.0)), 3)
    0.378
    """
    rho = numbers("latent", latent)
    a, b = numbers("sd_a", sd_a), numbers("sd_b", sd_b)
    if (np.abs(rho) > 1).any():
        raise InputError("latent must lie between -1 and 1: it is a correlation")
    for name, sd in (("sd_a", a), ("sd_b", b)):
        if (sd <= 0).any():
            raise InputError(f"{name} must be positive")
    return _natural_correlation(rho, a, b)


def _natural_correlation(latent: Array, a: Array, b: Array) -> Array:
    return np.expm1(latent * a * b) / np.sqrt(np.expm1(a**2) * np.expm1(b**2))


def _generator(seed: Any) -> np.random.Generator:
    parts = seed if isinstance(seed, list | tuple) and seed else [seed]
    for part in parts:
        valid_seed(part)
        if part is None and seed is not None:
            raise InputError(f"seed must be numbers or one number, not {seed!r}")
    return np.random.default_rng(seed)


def _shown(value: Any) -> str:
    """Describe a value in one line."""
    return repr(value) if np.ndim(value) == 0 else f"an array of {np.asarray(value).dtype}"


def _cell_numbers(
    n: int, cells: int | Sequence[int], imbalance: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    given = numbers("n_cells", cells)
    if not ((given >= 1) & (given <= _MOST)).all() or (given != np.round(given)).any():
        raise InputError(f"n_cells needs whole positive numbers, not {_shown(cells)}")
    if given.ndim:
        if given.shape != (n,):
            raise InputError(f"n_cells needs {n} positive numbers, one per sample")
        if imbalance:
            raise InputError(
                f"cell_imbalance={imbalance!r} has no effect if n_cells= is given per sample: "
                "leave it out"
            )
        return given.astype(np.int64)
    share = np.exp(imbalance * rng.standard_normal(n)) if imbalance else np.ones(n)
    return np.maximum(1, np.round(share / share.mean() * float(given))).astype(np.int64)


def _donors(donor: Any, n_samples: int) -> NDArray:
    names = np.asarray(donor, str)
    if names.shape != (n_samples,):
        raise InputError(f"donor needs {n_samples} names, one per sample, not {_shown(donor)}")
    return names


def _share_donors(level: Array, donor: NDArray, share: float, rng: np.random.Generator) -> Array:
    """Replace part of the variance between samples by variance between donors."""
    names, code = np.unique(donor, return_inverse=True)
    of_donors = rng.standard_normal((len(names), level.shape[1]))
    return np.sqrt(share) * of_donors[code] + np.sqrt(1 - share) * level


def _per_gene(value: ArrayLike, n: int, name: str) -> Array:
    values = numbers(name, value)
    if values.ndim and values.shape != (n,):
        raise InputError(f"{name} needs one number or {n}, not shape {values.shape}")
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"{name} must be positive, not {_shown(value)}")
    return np.broadcast_to(values, (n,)).astype(float)


def _correlation(value: ArrayLike, n: int, name: str) -> Array:
    given = numbers(name, value)
    if given.ndim == 0:
        if not -1 < given < 1:
            raise InputError(f"{name}={float(given)}: a correlation lies between -1 and 1")
        out = np.eye(n)
        even = np.arange(0, n - 1, 2)
        out[even, even + 1] = out[even + 1, even] = given
        return out
    if (
        given.shape != (n, n)
        or not np.allclose(given, given.T)
        or not np.allclose(np.diag(given), 1)
    ):
        raise InputError(f"{name} must be a number or a symmetric {n} x {n} correlation matrix")
    if np.linalg.eigvalsh(given)[0] < -1e-8:
        raise InputError(f"{name} is not positive semi-definite, so no data can have it")
    return given


def _covariate_effects(
    covariates: Mapping[str, tuple[ArrayLike, ArrayLike]] | None, n_samples: int, n_genes: int
) -> tuple[Array, dict[str, NDArray]]:
    """Compute the effects on log means, and the columns of ``obs``."""
    effect, columns = np.zeros((n_samples, n_genes)), {}
    if covariates is not None and not isinstance(covariates, Mapping):
        raise InputError(
            f"covariates must be a mapping {{name: (values, effects)}}, not {covariates!r}"
        )
    for name, given in (covariates or {}).items():
        if name in _RESERVED:
            raise InputError(f"covariates: {name!r} is the name of another column; choose another")
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise InputError(f"covariates: {name!r} needs a pair (values, effects), not {given!r}")
        values, slopes = np.asarray(given[0]), numbers(f"effects of covariate {name!r}", given[1])
        if values.shape != (n_samples,):
            raise InputError(f"covariates: {name!r} needs {n_samples} values, one per sample")
        if slopes.shape not in ((), (1,), (n_genes,)):
            raise InputError(f"covariates: {name!r} needs one effect or {n_genes}, one per gene")
        columns[name] = values
        if values.dtype.kind in "fiub":
            code = values.astype(float)
        else:
            labels = np.unique(values)
            if len(labels) > 2:
                raise InputError(f"covariates: {name!r} has {len(labels)} labels; 2 are possible")
            code = (values == labels[-1]).astype(float)
        effect += code[:, None] * np.broadcast_to(slopes, (n_genes,))
    return effect, columns


def _root(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.clip(values, 0, None))


def _vary(target: Array, tau: float, pairs_only: bool, rng: np.random.Generator) -> Array:
    """Add N(0, tau) to atanh of the correlations."""
    if not tau:
        return target
    n = len(target)
    noise = np.triu(rng.normal(0, tau, (n, n)), 1)
    if pairs_only:
        keep = np.zeros((n, n))
        even = np.arange(0, n - 1, 2)
        keep[even, even + 1] = 1
        noise *= keep
    inner = np.where(np.eye(n, dtype=bool), 0, target)
    moved = np.tanh(np.arctanh(np.clip(inner, -0.999, 0.999)) + noise + noise.T)
    return moved + np.eye(n)


def _population(target: Array, tau: float) -> Array:
    """Compute the mean of tanh(atanh(target) + N(0, tau)), the expected correlation of a sample."""
    inner = np.where(np.eye(len(target), dtype=bool), 0, np.clip(target, -0.999, 0.999))
    drawn = np.where(inner == 0, 0.0, 1.0)[..., None] * np.tanh(
        np.arctanh(inner)[..., None] + tau * _NODES
    )
    return drawn @ _WEIGHTS + np.eye(len(target))


@dataclass(frozen=True)
class _Copula:
    """Gaussian copula of expression over the cells of a sample."""

    sd: Array
    distribution: str
    pairs_only: bool  # only genes (0, 1), (2, 3), ... are correlated

    def latent(self, natural: Array) -> Array:
        """Return the correlation of the copula that gives a correlation of expression."""
        sd = self.sd
        if self.distribution == "lognormal":
            size = np.sqrt(np.outer(np.expm1(sd**2), np.expm1(sd**2)))
            inside = 1 + natural * size
            if (inside <= 0).any():
                low = float(natural[inside <= 0].max())
                raise InputError(
                    f"within: a correlation of {low:.2f} is out of reach of lognormal variables "
                    "with this within_sd"
                )
            out = np.log(inside) / np.outer(sd, sd)
        else:
            grid = np.linspace(-0.999, 0.999, 81)
            out = np.empty_like(natural)
            reached: dict[tuple[float, float], Array] = {}
            for j, k in zip(*np.triu_indices(len(sd)), strict=True):
                key = (sd[j], sd[k])
                if key not in reached:
                    reached[key] = np.array([_gamma_natural(r, *key) for r in grid])
                out[j, k] = out[k, j] = np.interp(natural[j, k], reached[key], grid)
        if (np.abs(out) > 1 + 1e-9).any():
            raise InputError(
                "within: this correlation is out of reach of the margins: |latent correlation| > 1"
            )
        np.fill_diagonal(out, 1)
        return out

    def natural(self, latent: Array) -> Array:
        """Return the correlation of expression of a copula, with negative eigenvalues set to 0."""
        sd, root = self.sd, _root(latent)
        realised = root @ root.T
        realised /= np.sqrt(np.outer(np.diag(realised), np.diag(realised)))
        if self.distribution == "lognormal":
            out = _natural_correlation(realised, sd[:, None], sd[None, :])
        else:
            out = np.array(
                [
                    [_gamma_natural(realised[j, k], sd[j], sd[k]) for k in range(len(sd))]
                    for j in range(len(sd))
                ]
            )
        np.fill_diagonal(out, 1)
        return out

    def normals(self, latent: Array, n: int, rng: np.random.Generator) -> Array:
        """Draw standard normal variables of n cells."""
        g = rng.standard_normal((n, len(latent)))
        if not self.pairs_only:
            matrix = _root(latent)
            return g @ (matrix / np.sqrt((matrix**2).sum(1, keepdims=True))).T
        even = np.arange(0, len(latent) - 1, 2)
        r = latent[even, even + 1]
        g[:, even + 1] = r * g[:, even] + np.sqrt(1 - np.minimum(r**2, 1)) * g[:, even + 1]
        return g

    def margin(self, normal: Array) -> Array:
        """Transform standard normal variables to expression with mean 1."""
        return _margin(normal, self.sd, self.distribution)


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(48)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def _gamma_natural(latent: float, sd_a: float, sd_b: float) -> float:
    """Compute the correlation of two gamma variables with a Gaussian copula, by quadrature."""
    a = _margin(_NODES[:, None], np.array([sd_a]), "gamma")[:, 0]
    x = latent * _NODES[:, None] + np.sqrt(1 - min(latent**2, 1)) * _NODES
    b = _margin(x.reshape(-1, 1), np.array([sd_b]), "gamma").reshape(x.shape) @ _WEIGHTS
    ma = float(_WEIGHTS @ a)
    covariance = float(_WEIGHTS @ (a * b)) - ma * float(_WEIGHTS @ b)
    return covariance / np.sqrt(np.expm1(sd_a**2) * np.expm1(sd_b**2))


def _margin(normal: Array, sd: Array, distribution: str) -> Array:
    """Transform standard normals to mean 1 and squared coefficient of variation exp(sd^2) - 1."""
    if distribution == "lognormal":
        return np.exp(sd * normal - sd**2 / 2)
    cv2 = np.expm1(sd**2)
    u = np.clip(special.ndtr(normal), 1e-15, 1 - 1e-15)
    return stats.gamma.ppf(u, 1 / cv2, scale=cv2)
