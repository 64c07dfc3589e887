r"""Sampling variance of the covariance of a group of genes with a gene, from the cells.

With weights a, the influence of a cell on the covariance of the group with gene k is
:math:`R_i\, w_{ik} r_{ik} / \delta_k`, with :math:`R_i = \sum_j a_j w_{ij} r_{ij} / \delta_j` and
:math:`D_{jk} \approx \delta_j \delta_k`. The expected square of R follows from the covariances of
the genes of the group, by quadrature over depth as for single genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiercorr import moments
from hiercorr.inference.random_effects import DonorGenes
from hiercorr.moments.genes import GeneMoments
from hiercorr.within.heterogeneity import DonorModel, by_donor, shrunken_ratios

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SignatureNoise:
    """Expected noise of a group of genes, and of the rest of it without each of its genes.

    Attributes
    ----------
    variance : ndarray, shape (n_samples, 1 + n_members, n_nodes)
        Expected square of R, divided by the depth.
    share, skewness : ndarray, shape (n_donors, 1 + n_members)
        As in :class:`hiercorr.inference.random_effects.DonorGenes`.
    squared : ndarray, shape (n_donors, 1 + n_members)
        Sum over the cells of each donor of the squared expected square of R.
    common_squared : ndarray, shape (n_donors, 1 + n_members)
        The same if the variances of the genes were equal in all donors.
    weights : ndarray, shape (n_members,)
    delta : ndarray, shape (n_genes,)
        Root of D of every gene.
    factor : ndarray, shape (n_taus + n_flips, n_members + 1), optional
        Factors of the prior: those of the genes, averaged by their variances.
    """

    variance: Array
    share: Array
    skewness: Array
    squared: Array
    common_squared: Array
    weights: Array
    delta: Array
    factor: Array | None = None

    def genes(self, rest: int, value: float, num: Array, den: Array) -> DonorGenes:
        """Return the group (0), or its rest without one gene, as one side of a tile.

        Parameters
        ----------
        rest : int
        value : float
            Variance of the group.
        num, den : ndarray, shape (n_donors,)
            Sums of donors whose ratio of totals it is; `den` adds up to 1.
        """
        at = slice(rest, rest + 1)
        phi, squared = np.array([value]), self.squared[:, at]
        common = self.common_squared[:, at]
        ratio = shrunken_ratios(num[:, None], den[:, None], phi, common)
        share, skewness = (np.ascontiguousarray(a[:, at]) for a in (self.share, self.skewness))
        known = phi > 0
        noise = np.where(known, 2 * squared.sum(0), 0.0) / np.where(known, phi, 1.0) ** 2
        factor = None if self.factor is None else np.ascontiguousarray(self.factor[:, at])
        return DonorGenes(np.where(known, phi, -1.0), ratio**-0.5, share, skewness, noise, factor)

    def of_pairs(
        self, model: DonorModel, sums: moments.DepthSums, rest: int, genes: slice
    ) -> Array:
        """Compute the variance of N of each donor without correlation, (n_donors, m)."""
        out = [
            model.variance[c, genes] @ (gram.T @ self.variance[c, rest])
            for c, gram in enumerate(sums.gram[0])
        ]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(by_donor(np.array(out), model.units) / self.delta[genes] ** 2)

    def closeness(self, genes: slice, member_noise: Array) -> Array:
        r"""Average :math:`(\delta_j\delta_k / D_{jk})^2` over the genes of the group, (m,)."""
        g = len(self.weights)
        product = np.outer(self.delta[:g], self.delta[genes]) * member_noise
        size = np.abs(self.weights)
        return np.nan_to_num(size @ product**2 / size.sum(), nan=1.0)


def signature_noise(
    model: DonorModel,
    sums: moments.DepthSums,
    fit: GeneMoments,
    covariances: Array,
    weights: Array,
) -> SignatureNoise:
    """Compute the expected noise of a group of genes, the first of the model.

    Parameters
    ----------
    model : DonorModel
    sums : DepthSums
    fit : GeneMoments
        Moments of all genes.
    covariances : ndarray, shape (n_members, n_members)
        Covariances of relative expression, with the variances on the diagonal.
    weights : ndarray, shape (n_members,)
    """
    g, s = len(weights), sums.nodes
    delta = np.sqrt(np.maximum(fit.den.sum(1), 0))
    a = weights / delta[:g]
    m = fit.mu[:g, :, None] * s  # (members, samples, nodes)
    root = a[:, None, None] / (1 + fit.slope[:g, :, None] * s)
    own_scale = 1 / model.genes.scale[model.units][:, :g].T[:, :, None]
    counting = _with_rests((root**2 * m).sum(0), root**2 * m)
    common = counting + _biology(covariances, root * m)
    biology = _biology(covariances, root * m * own_scale)
    each = counting + biology
    known = np.diag(covariances)[:, None, None] * own_scale**2
    third = root**3 * (m + 3 * known * m**2 + 2 * known**2 * m**3)
    third = _with_rests(third.sum(0), third)
    total, biological, skewed = (
        by_donor(np.einsum("jcn,cn->cj", part, sums.power[0]), model.units)
        for part in (each, biology, third)
    )
    cells = by_donor(sums.power[0].sum(1)[:, None], model.units)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(biological / total)
        skewness = np.nan_to_num(skewed / total**1.5 * cells**0.5) / cells**0.25
    squared, common_squared = (
        by_donor(
            np.einsum("jcn,cnl,jcl->cj", part / s, sums.gram[0], part / s, optimize=True),
            model.units,
        )
        for part in (each, common)
    )
    variance = np.ascontiguousarray((each / s).transpose(1, 0, 2))
    factor = None
    if model.genes.factor is not None:
        part = weights**2 * np.maximum(np.diag(covariances), 0)
        factor = _averaged(model.genes.factor[:, :g], part)
    return SignatureNoise(
        variance, share, skewness, squared, common_squared, weights, delta, factor
    )


def _averaged(factor: Array, size: Array) -> Array:
    """Average the factors of the genes of the group, and of the group without each."""
    weight = np.concatenate([size[None], size * (1 - np.eye(len(size)))])
    total = weight.sum(1)
    weight = np.divide(weight, total[:, None], out=np.zeros_like(weight), where=total[:, None] > 0)
    return np.where(total > 0, factor @ weight.T, 1.0)


def _with_rests(whole: Array, parts: Array) -> Array:
    """Return a sum over the genes of the group, then those without each gene."""
    return np.concatenate([whole[None], whole - parts])


def _biology(covariances: Array, size: Array) -> Array:
    """Compute the expected square of the biological part; `size` is (members, samples, nodes)."""
    with_all = np.einsum("jl,jcn,lcn->jcn", covariances, size, size, optimize=True)
    own = np.diag(covariances)[:, None, None] * size**2
    return np.maximum(_with_rests(with_all.sum(0), 2 * with_all - own), 0)
