"""Donors from a population: correlations that differ between donors, unequal donors, few donors.

Genes come in blocks of four. The pairs of some blocks are related: their correlation averages `rho`
over the population of donors. Those of others change from donor to donor around exactly 0: no
method may call them, though each donor has a correlation. All other pairs are independent in
every donor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, special

from validation.worlds import latent_of

SD = 0.64  # of log expression over cells: overdispersion 0.5
BLOCK = 4
DEPTH_SD = 0.4
DONOR_SD = 0.3  # of the log means
LIMITS = (-0.2, 0.9)  # of a related block, all pairs of which have one correlation in a donor
_NODES = np.linspace(-6, 6, 2001)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()


@dataclass(frozen=True)
class Population:
    """What donors are drawn from.

    Attributes
    ----------
    means : tuple of float
        Typical counts of a cell; genes take them in turns.
    related, changing : float
        Proportions of the genes in blocks that are related, and that change around 0.
    rho, spread : float
        Average correlation of related pairs, and its standard deviation over donors.
    form : {"normal", "two-point", "cells", "depth"}
        How it differs: normally; rho +- spread by chance; rho - spread in donors with many cells
        or deep cells, and rho + spread in the others.
    size : float
        Correlation of changing pairs in a donor: +-size, or its standard deviation.
    changes : {"sign", "normal"}
    distribution : {"lognormal", "gamma"}
    alike : float
        Correlation of the donors' log means between all genes.
    outlier : float
        Proportion of the variance of log expression that the first donor shares between all genes,
        with random signs.
    """

    means: tuple[float, ...] = (1.5,)
    related: float = 0.5
    rho: float = 0.3
    spread: float = 0.0
    form: str = "normal"
    changing: float = 0.0
    size: float = 0.4
    changes: str = "sign"
    distribution: str = "lognormal"
    alike: float = 0.0
    outlier: float = 0.0

    def related_correlations(self, large: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Correlation of one block in each donor; `large` are those with many or deep cells."""
        n = len(large)
        if self.form in ("cells", "depth"):
            return self.rho + np.where(large, -self.spread, self.spread)
        if self.form == "two-point":
            return self.rho + self.spread * rng.choice([-1, 1], n)
        return np.clip(self.rho + self.spread * rng.standard_normal(n), *LIMITS)

    def average(self, large: np.ndarray) -> float:
        """Average of the correlation of related pairs over the population of donors."""
        if self.form in ("cells", "depth"):
            return float(self.rho + self.spread * np.mean(np.where(large, -1, 1)))
        if self.form == "two-point":
            return self.rho
        return float(np.clip(self.rho + self.spread * _NODES, *LIMITS) @ _WEIGHTS)

    def changing_correlations(self, rng: np.random.Generator) -> np.ndarray:
        """Correlation matrix of a block that changes, in one donor."""
        if self.changes == "sign":
            sign = rng.choice([-1, 1], BLOCK)
            return self.size * np.outer(sign, sign)
        upper = np.triu(np.clip(self.size * rng.standard_normal((BLOCK, BLOCK)), -0.45, 0.45), 1)
        return upper + upper.T


@dataclass(frozen=True)
class Draw:
    """One data set and what is true of its pairs: i < j, all masks and values by pair."""

    adata: ad.AnnData
    pairs: tuple[np.ndarray, np.ndarray]
    related: np.ndarray
    changing: np.ndarray
    truth: np.ndarray

    @property
    def independent(self) -> np.ndarray:
        """Pairs that are independent in every donor."""
        return ~self.related & ~self.changing


def unequal_cells(donors: int, cells: int, ratio: float) -> np.ndarray:
    """Cells of donors from the largest to the smallest, which differ by `ratio`, with this mean."""
    share = np.geomspace(ratio, 1, donors)
    return np.round(share / share.mean() * cells).astype(int)


@lru_cache(maxsize=4)
def _gamma_table() -> tuple[np.ndarray, np.ndarray]:
    normal, cv2 = np.linspace(-7, 7, 4001), np.expm1(SD**2)
    return normal, special.gammaincinv(1 / cv2, special.ndtr(normal)) * cv2


def expression(normal: np.ndarray, distribution: str) -> np.ndarray:
    """Expression with mean 1 from standard normals."""
    if distribution == "lognormal":
        return np.exp(SD * normal - SD**2 / 2)
    return np.interp(normal, *_gamma_table())


def root(natural: np.ndarray, distribution: str) -> np.ndarray:
    """Root of the correlations of normals that give these correlations of expression."""
    latent = np.array(latent_of(distribution, SD)(natural))
    np.fill_diagonal(latent, 1.0)
    least = np.linalg.eigvalsh(latent)[0]
    if least < 0.01:  # three pairs of a block can contradict one another: all shrink alike
        latent = (latent - np.eye(len(latent))) * 0.99 / (1 - least) + np.eye(len(latent))
    return np.linalg.cholesky(latent)


def blocks(world: Population, genes: int) -> np.ndarray:
    """Block of each gene: 1, 2, ... where related, -1, -2, ... where changing, and 0 for none."""
    out = np.zeros(genes, int)
    related, changing = (
        round(share * genes / BLOCK) * BLOCK for share in (world.related, world.changing)
    )
    out[:related] = 1 + np.arange(related) // BLOCK
    out[related : related + changing] = -1 - np.arange(changing) // BLOCK
    return out


def draw(
    world: Population, cells: np.ndarray, genes: int, rng: np.random.Generator, deep: float = 1.0
) -> Draw:
    """Draw donors with these numbers of cells, the first quarter of them `deep` times as deep."""
    donors, block = len(cells), blocks(world, genes)
    large = cells > 1.5 * np.median(cells)
    depth = np.exp(rng.normal(0, 0.2, donors))
    if world.form == "depth":
        large = np.arange(donors) < max(1, donors // 4)
        depth *= np.where(large, deep, 1.0)
    mean = np.resize(world.means, genes) * np.exp(rng.normal(0, 0.5, genes))
    shared = rng.standard_normal((donors, 1))
    own = rng.standard_normal((donors, genes))
    level = np.sqrt(world.alike) * shared + np.sqrt(1 - world.alike) * own
    mu = mean * np.exp(DONOR_SD * level)
    correlations = {
        b: world.related_correlations(large, rng) for b in range(1, block.max(initial=0) + 1)
    }
    counts, depths = [], []
    for c, n in enumerate(cells):
        g = rng.standard_normal((n, genes))
        for b in np.unique(block[block != 0]):
            at = np.flatnonzero(block == b)
            natural = (
                np.full((BLOCK, BLOCK), correlations[b][c])
                if b > 0
                else world.changing_correlations(rng)
            )
            g[:, at] = g[:, at] @ root(natural, world.distribution).T
        if world.outlier and c == 0:
            common = rng.standard_normal((n, 1)) * rng.choice([-1, 1], genes)
            g = np.sqrt(1 - world.outlier) * g + np.sqrt(world.outlier) * common
        s = np.exp(rng.normal(0, DEPTH_SD, n) - DEPTH_SD**2 / 2) * depth[c]
        rate = s[:, None] * mu[c] * expression(g, world.distribution)
        counts.append(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
        depths.append(s * 1e4)
    obs = pd.DataFrame(
        {
            "sample": np.repeat([f"s{c:02d}" for c in range(donors)], cells),
            "depth": np.concatenate(depths),
        },
        index=[f"cell{i}" for i in range(int(np.sum(cells)))],
    )
    var = pd.DataFrame(index=[f"gene{j}" for j in range(genes)])
    i, j = np.triu_indices(genes, 1)
    same = block[i] == block[j]
    related, changing = same & (block[i] > 0), same & (block[i] < 0)
    truth = np.where(related, world.average(large), 0.0)
    adata = ad.AnnData(sparse.vstack(counts, format="csr"), obs=obs, var=var)
    return Draw(adata, (i, j), related, changing, truth)
