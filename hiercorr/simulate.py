"""Counts from the hierarchical model, with the truth they were drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special, stats

from hiercorr.errors import InputError

Array = NDArray[np.float64]


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
    donor_share: float = 0.5,
    seed: int | np.random.Generator | None = None,
) -> tuple[ad.AnnData, xr.Dataset]:
    r"""Draw counts of cells nested in samples.

    .. math:: x_{ij} \sim Poisson(s_i z_{ij}),\quad z_{ij} = \mu_{cj}\,e_{ij},\quad
              \log \mu_{cj} = \log m_j - \tfrac12 b_j^2 + b_j B_{cj} + \textstyle\sum_k C_{ck}\beta_{kj}

    B is standard normal over samples with correlation `between`; e has mean 1 and is a Gaussian copula over cells with
    lognormal or gamma margins. Genes come in pairs (0, 1), (2, 3), ... where a correlation is one number.

    Parameters
    ----------
    n_samples : int
    n_cells : int or sequence of int
        Cells per sample (their average, with `cell_imbalance`).
    n_genes : int
    mean : float or array, shape (n_genes,)
        Expected count in a cell of average depth.
    within, between : float or array, shape (n_genes, n_genes)
        A number: correlation of each pair of genes, others 0. `within` is on the natural scale, that of z within a
        sample; a matrix is a correlation matrix (of z; of log mu for `between`).
    within_sd, between_sd : float or array, shape (n_genes,)
        Standard deviation of log expression over cells (gamma: the coefficient of variation is that of a lognormal
        with this sd) and of log mean over samples.
    heterogeneity : float
        Standard deviation over samples of atanh(within), drawn anew for each pair of genes and sample.
    distribution : {"lognormal", "gamma"}
    cell_imbalance : float
        0: equal samples; otherwise cells per sample vary with this standard deviation of the log.
    depth_mean, depth_sd, depth_shift : float
        Mean depth in counts, standard deviation of log depth over cells and over samples.
    covariates : mapping, optional
        ``{name: (values, effects)}`` with one value a sample (numbers, or two labels) and the log fold change of each
        gene (or one for all) per unit or for the second label.
    donor : sequence of str, optional
        Donor of each sample; samples of one donor share `donor_share` of the variance between samples.
    donor_share : float
    seed : int or Generator, optional

    Returns
    -------
    AnnData
        Counts (CSR); ``obs``: sample, depth, donor if given, and the covariates.
    xarray.Dataset
        ``within`` (gene, partner): natural-scale correlation, its mean over all samples there could be;
        ``sample_within`` (sample, gene, partner): that of the samples drawn; ``between`` (gene, partner) of log mu;
        ``mu`` (sample, gene); ``overdispersion`` (gene).

    Examples
    --------
    >>> from hiercorr.simulate import simulate_counts
    >>> adata, truth = simulate_counts(n_samples=4, n_cells=50, n_genes=6, within=0.5, seed=1)
    >>> adata.shape, round(float(truth["within"][0, 1]), 3)
    ((200, 6), 0.5)
    """
    rng = np.random.default_rng(seed)
    if distribution not in ("lognormal", "gamma"):
        raise InputError(f"distribution must be 'lognormal' or 'gamma', not {distribution!r}")
    if n_genes < 2 or n_samples < 1:
        raise InputError(f"at least 2 genes and 1 sample are needed, not {n_genes} and {n_samples}")
    cells = _cell_numbers(n_samples, n_cells, cell_imbalance, rng)
    m, sd_w, sd_b = (
        _per_gene(v, n_genes, k) for v, k in ((mean, "mean"), (within_sd, "sd"), (between_sd, "sd"))
    )
    target = _correlation(within, n_genes, "within")
    between_matrix = _correlation(between, n_genes, "between")
    effect, columns = _covariate_effects(covariates, n_samples, n_genes)

    level = rng.standard_normal((n_samples, n_genes))
    if donor is not None:
        columns["donor"] = np.asarray(donor, str)
        level = _share_donors(level, columns["donor"], donor_share, rng)
    log_mu = np.log(m) - sd_b**2 / 2 + sd_b * (level @ _root(between_matrix).T)
    mu = np.exp(log_mu + effect)
    natural = np.empty((n_samples, n_genes, n_genes))
    shift = np.exp(rng.normal(0, depth_shift, n_samples)) if depth_shift else np.ones(n_samples)
    counts, depths = [], []
    pairs_only = np.ndim(within) == 0
    for c in range(n_samples):
        wanted = _vary(target, heterogeneity, pairs_only, rng)
        latent = _latent(wanted, sd_w, distribution)
        natural[c] = wanted if pairs_only else _natural(latent, sd_w, distribution)
        g = _draw(latent, int(cells[c]), pairs_only, rng)
        depth = np.exp(rng.normal(0, depth_sd, cells[c]) - depth_sd**2 / 2) * shift[c]
        counts.append(
            sparse.csr_matrix(rng.poisson(depth[:, None] * mu[c] * _margin(g, sd_w, distribution)))
        )
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
            "overdispersion": ("gene", np.expm1(sd_w**2)),
        },
        coords,
    )
    return adata, truth


def natural_correlation(latent: ArrayLike, sd_a: ArrayLike, sd_b: ArrayLike) -> Array:
    r"""Correlation of two lognormal variables from that of their logarithms.

    .. math:: \frac{e^{\rho\,\sigma_a\sigma_b} - 1}{\sqrt{(e^{\sigma_a^2} - 1)(e^{\sigma_b^2} - 1)}}

    Parameters
    ----------
    latent : array_like
        Correlation of the logarithms.
    sd_a, sd_b : array_like
        Their standard deviations.

    Returns
    -------
    ndarray
    """
    latent, a, b = (np.asarray(v, float) for v in (latent, sd_a, sd_b))
    return np.expm1(latent * a * b) / np.sqrt(np.expm1(a**2) * np.expm1(b**2))


def _cell_numbers(
    n: int, cells: int | Sequence[int], imbalance: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    if np.ndim(cells):
        given = np.asarray(cells, np.int64)
        if given.shape != (n,) or (given < 1).any():
            raise InputError(f"n_cells needs {n} positive numbers, one a sample")
        return given
    share = np.exp(imbalance * rng.standard_normal(n)) if imbalance else np.ones(n)
    return np.maximum(1, np.round(share / share.mean() * float(np.asarray(cells)))).astype(np.int64)


def _share_donors(level: Array, donor: NDArray, share: float, rng: np.random.Generator) -> Array:
    if donor.shape != (len(level),):
        raise InputError(f"donor needs {len(level)} names, one a sample")
    if not 0 <= share <= 1:
        raise InputError(f"donor_share={share} must lie between 0 and 1")
    names, code = np.unique(donor, return_inverse=True)
    own = rng.standard_normal((len(names), level.shape[1]))
    return np.sqrt(share) * own[code] + np.sqrt(1 - share) * level


def _per_gene(value: ArrayLike, n: int, name: str) -> Array:
    values = np.asarray(value, float)
    if values.ndim and values.shape != (n,):
        raise InputError(f"{name} needs one number or {n}, not shape {values.shape}")
    if not (values > 0).all():
        raise InputError(f"{name} must be positive")
    return np.broadcast_to(values, (n,)).astype(float)


def _correlation(value: ArrayLike, n: int, name: str) -> Array:
    given = np.asarray(value, float)
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
    effect, columns = np.zeros((n_samples, n_genes)), {}
    for name, (values, effects) in (covariates or {}).items():
        v = np.asarray(values)
        if v.shape != (n_samples,):
            raise InputError(f"covariate {name!r} needs {n_samples} values, one a sample")
        columns[name] = v
        number = (
            v.astype(float) if v.dtype.kind in "fiub" else (v == np.unique(v)[-1]).astype(float)
        )
        effect += number[:, None] * np.broadcast_to(np.asarray(effects, float), (n_genes,))
    return effect, columns


def _root(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.clip(values, 0, None))


def _vary(target: Array, tau: float, pairs_only: bool, rng: np.random.Generator) -> Array:
    """The target with atanh of its off-diagonal moved by N(0, tau), made a correlation matrix again."""
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
    """Mean of tanh(atanh(target) + N(0, tau)): the average correlation of a population of samples."""
    inner = np.where(np.eye(len(target), dtype=bool), 0, np.clip(target, -0.999, 0.999))
    drawn = np.where(inner == 0, 0.0, 1.0)[..., None] * np.tanh(
        np.arctanh(inner)[..., None] + tau * _NODES
    )
    return drawn @ _WEIGHTS + np.eye(len(target))


def _latent(natural: Array, sd: Array, distribution: str) -> Array:
    """Correlation of the Gaussian copula that gives the natural-scale correlation."""
    if distribution == "lognormal":
        size = np.sqrt(np.outer(np.expm1(sd**2), np.expm1(sd**2)))
        inside = 1 + natural * size
        if (inside <= 0).any():
            low = float(natural[inside <= 0].max())
            raise InputError(
                f"a correlation of {low:.2f} is out of reach of lognormals with this within_sd"
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
            "this correlation is out of reach of the margins: |latent correlation| > 1"
        )
    np.fill_diagonal(out, 1)
    return out


def _natural(latent: Array, sd: Array, distribution: str) -> Array:
    """Inverse of :func:`_latent`, after the matrix was drawn from (negative eigenvalues cut)."""
    root = _root(latent)
    realised = root @ root.T
    realised /= np.sqrt(np.outer(np.diag(realised), np.diag(realised)))
    if distribution == "lognormal":
        out = natural_correlation(realised, sd[:, None], sd[None, :])
    else:
        out = np.array(
            [
                [_gamma_natural(realised[j, k], sd[j], sd[k]) for k in range(len(sd))]
                for j in range(len(sd))
            ]
        )
    np.fill_diagonal(out, 1)
    return out


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(48)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def _gamma_natural(latent: float, sd_a: float, sd_b: float) -> float:
    """Correlation of two gamma variables of mean 1 under a Gaussian copula, by quadrature."""
    a = _margin(_NODES[:, None], np.array([sd_a]), "gamma")[:, 0]
    x = latent * _NODES[:, None] + np.sqrt(1 - min(latent**2, 1)) * _NODES
    b = _margin(x.reshape(-1, 1), np.array([sd_b]), "gamma").reshape(x.shape) @ _WEIGHTS
    ma = float(_WEIGHTS @ a)
    covariance = float(_WEIGHTS @ (a * b)) - ma * float(_WEIGHTS @ b)
    return covariance / np.sqrt(np.expm1(sd_a**2) * np.expm1(sd_b**2))


def _margin(normal: Array, sd: Array, distribution: str) -> Array:
    """Mean-1 variables with squared coefficient of variation exp(sd^2) - 1 from standard normals."""
    if distribution == "lognormal":
        return np.exp(sd * normal - sd**2 / 2)
    cv2 = np.expm1(sd**2)
    u = np.clip(special.ndtr(normal), 1e-15, 1 - 1e-15)
    return stats.gamma.ppf(u, 1 / cv2, scale=cv2)


def _draw(latent: Array, n: int, pairs_only: bool, rng: np.random.Generator) -> Array:
    g = rng.standard_normal((n, len(latent)))
    if not pairs_only:
        matrix = _root(latent)
        return g @ (matrix / np.sqrt((matrix**2).sum(1, keepdims=True))).T
    even = np.arange(0, len(latent) - 1, 2)
    r = latent[even, even + 1]
    g[:, even + 1] = r * g[:, even] + np.sqrt(1 - np.minimum(r**2, 1)) * g[:, even + 1]
    return g
