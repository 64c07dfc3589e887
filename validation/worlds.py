"""Panels with every setting of a grid, simulated from the model or from a world that violates it.

Genes of a block correlate within samples, and with no other gene. Genes of one mean and one setting
between samples share what moves their means. So the pairs of a block have a known correlation, and
pairs across blocks of one mean are true nulls within samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from hiercorr.simulate import _gamma_natural, _margin

WITHIN_SD = 0.8
BETWEEN_SD = 0.4
DEPTH_SD = 0.4
SCALE_SD = 0.3  # of the log of a sample's WITHIN_SD, where samples differ in it
PAIRS = 10  # of a block
RATIO = 8.0  # of the means of another type's genes, up or down
DIFFERENT = 0.4  # share of the genes that differ between the types

_NODES = np.linspace(-6, 6, 2001)
_WEIGHTS = np.exp(-(_NODES**2) / 2)
_WEIGHTS /= _WEIGHTS.sum()


@dataclass(frozen=True)
class Block:
    """Genes with ten pairs of one setting.

    Without heterogeneity five genes that all correlate equally; with it a chain of eleven, of which
    neighbours have correlations that are drawn for each pair and sample on its own (only of a chain
    can these be anything).

    Attributes
    ----------
    mean : float
        Expected count in a cell of average depth.
    between : float
        Correlation of the log means over samples, with all genes of the same mean and between.
    rho, tau : float
        Correlation within samples on the natural scale, and the standard deviation of its atanh
        over samples.
    """

    mean: float
    between: float
    rho: float
    tau: float

    @property
    def key(self) -> tuple[float, float, float, float]:
        return self.mean, self.between, self.rho, self.tau

    @property
    def size(self) -> int:
        return PAIRS + 1 if self.tau else 5

    @property
    def pairs(self) -> np.ndarray:
        """Positions of the genes of each pair, shape (2, 10)."""
        return np.array(
            [np.arange(PAIRS), np.arange(1, PAIRS + 1)] if self.tau else np.triu_indices(5, 1)
        )

    def truth(self) -> float:
        """Mean over samples of the correlation that a sample has."""
        return 0.0 if self.rho == 0 else float(self._natural(_NODES) @ _WEIGHTS)

    def _natural(self, normal: np.ndarray) -> np.ndarray:
        # lognormals of this sd reach -0.53; cut on both sides where the mean is to be 0
        limits = (-0.5, 0.5) if self.rho == 0 else (-0.5, 0.999)
        return np.clip(np.tanh(np.arctanh(self.rho) + self.tau * normal), *limits)

    def correlate(self, g: np.ndarray, to_latent: Callable, rng: np.random.Generator) -> None:
        """Give independent normals (cells, size) the correlations of one sample, in place."""
        if self.tau:
            r = to_latent(self._natural(rng.standard_normal(PAIRS)))
            for k in range(PAIRS):
                g[:, k + 1] = r[k] * g[:, k] + np.sqrt(max(1 - r[k] ** 2, 0.0)) * g[:, k + 1]
        else:
            r = to_latent(self.rho)
            b = (
                np.sqrt(1 + 4 * r) - np.sqrt(1 - r)
            ) / 5  # the root of equal correlations is a I + b 11'
            g[:] = np.sqrt(1 - r) * g + b * g.sum(1, keepdims=True)


def blocks(
    means: list[float], betweens: list[float], settings: list[tuple[float, float]]
) -> list[Block]:
    """Every (mean, between, (rho, tau)); (0, 0) needs no block: pairs across blocks are such."""
    every = itertools.product(means, betweens, settings)
    return [
        Block(mean, between, *setting) for mean, between, setting in every if setting != (0.0, 0.0)
    ]


def pairs_of(
    panel: list[Block],
) -> dict[tuple[float, float, float, float], tuple[np.ndarray, np.ndarray]]:
    """Gene positions of each pair, by (mean, between, rho, tau); rho = tau = 0 across blocks."""
    found, members, start = {}, {}, 0
    for k, b in enumerate(panel):
        found[b.key] = tuple(start + b.pairs)
        members.setdefault((b.mean, b.between), []).append(
            (np.arange(start, start + b.size), np.full(b.size, k))
        )
        start += b.size
    for (mean, between), parts in members.items():
        genes, block = (np.concatenate(v) for v in zip(*parts, strict=True))
        i, j = np.triu_indices(len(genes), 1)
        across = block[i] != block[j]
        found[(mean, between, 0.0, 0.0)] = (genes[i[across]], genes[j[across]])
    return found


def draw(
    panel: list[Block],
    cells: np.ndarray,
    rng: np.random.Generator,
    *,
    distribution: str = "lognormal",
    world: str = "model",
    state: Callable[[int, np.random.Generator], tuple[pd.DataFrame, np.ndarray]] | None = None,
) -> ad.AnnData:
    """Counts of one panel: cells of each sample, every one with its depth, in the given world.

    Parameters
    ----------
    panel : list of Block
    cells : ndarray of int, shape (n_samples,)
    rng : Generator
    distribution : {"lognormal", "gamma"}
        Of expression over the cells of a sample.
    world : str
        One of :data:`WORLDS`.
    state : callable, optional
        Gives, for a number of cells, a table of covariates and the factors (cells, genes) or
        (cells, 1) by which they move expression.
    """
    size = [b.size for b in panel]
    start = np.concatenate([[0], np.cumsum(size)])
    mean, between = (
        np.repeat(v, size) for v in zip(*((b.mean, b.between) for b in panel), strict=True)
    )
    group = {key: k for k, key in enumerate(dict.fromkeys((b.mean, b.between) for b in panel))}
    group_of = np.repeat([group[b.mean, b.between] for b in panel], size)
    n, genes = len(cells), len(mean)
    shared = rng.standard_normal((n, len(group)))[:, group_of]
    level = np.sqrt(between) * shared + np.sqrt(1 - between) * rng.standard_normal((n, genes))
    mu = mean * np.exp(BETWEEN_SD * level - BETWEEN_SD**2 / 2)
    batch = rng.permutation(np.arange(n) % 2)
    if world == "batch-dependent capture":
        # one batch captures half, and each gene in its own measure
        mu = (
            mu
            * np.exp(rng.normal(0, 0.5, genes) * batch[:, None])
            * np.where(batch == 1, 0.5, 1.0)[:, None]
        )
    spread = np.full(n, WITHIN_SD)
    if (
        world == "unequal variances"
    ):  # the cells of one sample differ more than those of another, in all genes
        spread *= np.exp(np.clip(rng.normal(0, SCALE_SD, n), -0.6, 0.25))
    shift = np.exp(rng.normal(0, 0.2, n))
    counts, depths, states = [], [], []
    for c in range(n):
        latent = latent_of(distribution, spread[c])
        g = np.empty((cells[c], genes), np.float32)
        rng.standard_normal(out=g, dtype=np.float32)
        for k, block in enumerate(panel):
            block.correlate(g[:, start[k] : start[k + 1]], latent, rng)
        if distribution == "lognormal":
            g *= spread[c]
            g -= spread[c] ** 2 / 2
            np.exp(g, out=g)
        else:
            g = _margin(g.astype(float), np.full(genes, spread[c]), "gamma")
        if state is not None:
            table, factor = state(int(cells[c]), rng)
            states.append(table)
            g = g * factor.astype(g.dtype)
        s = np.exp(rng.normal(0, DEPTH_SD, cells[c]) - DEPTH_SD**2 / 2) * shift[c]
        x, depth = WORLDS[world](s, mu[c], g, rng)
        counts.append(sparse.csr_matrix(x))
        depths.append(depth)
    obs = pd.DataFrame(
        {
            "sample": np.repeat([f"s{c:02d}" for c in range(n)], cells),
            "batch": np.repeat(np.where(batch == 1, "b", "a"), cells),
            "depth": np.concatenate(depths) * 1e4,
        },
        index=[f"cell{i}" for i in range(int(np.sum(cells)))],
    )
    if states:
        obs = obs.join(pd.concat(states, ignore_index=True).set_axis(obs.index))
    var = pd.DataFrame(index=[f"gene{j}" for j in range(genes)])
    return ad.AnnData(sparse.vstack(counts, format="csr").astype(np.int32), obs=obs, var=var)


@lru_cache(maxsize=64)
def latent_of(distribution: str, sd: float) -> Callable[[np.ndarray], np.ndarray]:
    """Gaussian-copula correlation for a given correlation on the natural scale at this sd."""
    if distribution == "lognormal":
        return lambda natural: np.log1p(natural * np.expm1(sd**2)) / sd**2
    grid = np.linspace(-1, 1, 81)
    reached = np.array([_gamma_natural(r, sd, sd) for r in grid])
    return lambda natural: np.interp(natural, reached, grid)


def _poisson(s: np.ndarray, mu: np.ndarray, e: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rate = e * mu.astype(e.dtype)
    rate *= s[:, None].astype(e.dtype)
    return rng.poisson(rate)


def _model(s, mu, e, rng):
    return _poisson(s, mu, e, rng), s


def _zero_inflation(s, mu, e, rng):
    """Three counts of ten are lost, each on its own."""
    x = _poisson(s, mu, e, rng)
    x[rng.random(x.shape, np.float32) < 0.3] = 0
    return x, s


def _ambient(s, mu, e, rng):
    """Replace a tenth of each cell's counts (beta, sd 0.05) by the sample's average profile."""
    a = rng.beta(3.5, 31.5, len(s))[:, None].astype(e.dtype)
    return _poisson(s, mu, (1 - a) * e + a, rng), s


def _wrong_depth(s, mu, e, rng):
    """The depth given is off by a factor with standard deviation 0.2 on the log scale."""
    return _poisson(s, mu, e, rng), s * np.exp(rng.normal(0, 0.2, len(s)))


WORLDS: dict[str, Callable] = {
    "model": _model,
    "unequal variances": _model,
    "zero inflation": _zero_inflation,
    "batch-dependent capture": _model,
    "ambient RNA": _ambient,
    "wrong depth": _wrong_depth,
}


def add_foreign(
    adata: ad.AnnData, share: float, doublets: bool, rng: np.random.Generator
) -> ad.AnnData:
    """Replace a share of the cells by those of another type, or add one of those to them."""
    x, depth = adata.X.toarray(), adata.obs["depth"].to_numpy().copy()
    at = rng.random(len(x)) < share
    factor = np.where(rng.random(x.shape[1]) < 0.5, RATIO, 1 / RATIO)
    mean = x.mean(0) * np.where(rng.random(x.shape[1]) < DIFFERENT, factor, 1.0)
    rate = mean * np.exp(rng.normal(0, 0.5, (at.sum(), len(mean)))) * depth[at, None] / 1e4
    other = rng.poisson(rate)
    x[at] = x[at] + other if doublets else other
    depth[at] *= 2.0 if doublets else 1.0
    obs = adata.obs.assign(depth=depth)
    return ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs, adata.var)


def cell_numbers(n: int, cells: int, unequal: bool, rng: np.random.Generator) -> np.ndarray:
    """Cells of each sample: all the same, or lognormal with sd 0.6 around the same average."""
    if not unequal:
        return np.full(n, cells)
    share = np.exp(0.6 * rng.standard_normal(n))
    return np.maximum(20, np.round(share / share.mean() * cells)).astype(int)
