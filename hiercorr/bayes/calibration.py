r"""Simulation-based calibration: ranks of parameters among draws of their posterior.

Where parameters are drawn from the prior, counts from the parameters, and the model is fitted to
the counts, the rank of each parameter among independent draws of its posterior is uniform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from hiercorr.bayes import collected
from hiercorr.bayes.generative import draw_parameters
from hiercorr.bayes.margin import Array, Cells
from hiercorr.bayes.pair import Pair, make_pair, margin_of
from hiercorr.bayes.sampling import Settings, require, sample_pair
from hiercorr.bayes.setup import Setup
from hiercorr.errors import true_or_false, valid_seed, whole_number
from hiercorr.inference.poisson_lognormal import random_counts
from hiercorr.runtime.progress import counted

_SCALARS = ("zeta", "z_between", "tau", "share")
_OF_GENES = ("sd_within", "sd_between", "beta", "mean", "omega", "sd_sample", "log_mean")
_OF_SAMPLES = ("mean", "sd_sample", "log_mean")
_MOST_TRIES = 100


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of :meth:`hiercorr.BayesianCorrelation.sbc`, checked."""

    replicates: int
    settings: Settings
    ranks: int
    seed: int | np.random.Generator | None
    progress: bool | None

    def __post_init__(self) -> None:
        """Check the options that are not checked by their own class."""
        whole_number("n", self.replicates, 1)
        whole_number("ranks", self.ranks, 1, maximum=self.settings.chains * self.settings.draws)
        valid_seed(self.seed)
        true_or_false("progress", self.progress, optional=True)


def calibration(pair: Pair, setup: Setup, options: CalibrationOptions) -> xr.Dataset:
    """Rank parameters of simulated data; see :meth:`hiercorr.BayesianCorrelation.sbc`."""
    settings = options.settings
    require("arviz", settings.sampler)
    rng = np.random.default_rng(options.seed)
    rows, truths, divergences = [], [], []
    each = settings.chains * (settings.draws + settings.tune)
    names: list[str] = []
    with counted(options.replicates * each, options.progress, "draws of simulated data") as bar:
        for k in range(options.replicates):
            cells, truth = _simulated(pair, setup, rng)
            margins = tuple(margin_of(cells, g, setup) for g in (0, 1))
            fitted = make_pair(
                cells,
                (0, 1),
                (margins[0], margins[1]),
                setup,
                intercepts=pair.coefficient_mean[:, 0],
            )
            draws = sample_pair(fitted, settings, int(rng.integers(2**31)), bar.at(k * each))
            bar.at((k + 1) * each)(0)
            posterior = _parameters(collected.variables([draws], setup), setup)
            names = list(truth)
            kept = np.linspace(0, settings.chains * settings.draws - 1, options.ranks).astype(int)
            found = np.stack([posterior[name].reshape(-1)[kept] for name in names], 1)
            rows.append((found < list(truth.values())).sum(0))
            truths.append(list(truth.values()))
            divergences.append(int(draws.diverging.sum()))
    return xr.Dataset(
        {
            "rank": (("replicate", "parameter"), np.array(rows)),
            "truth": (("replicate", "parameter"), np.array(truths)),
            "divergences": ("replicate", np.array(divergences)),
        },
        {"parameter": np.array(names, object)},
        {"ranks": options.ranks, "n_samples": len(setup.population.design)},
    )


def _simulated(
    pair: Pair, setup: Setup, rng: np.random.Generator
) -> tuple[Cells, dict[str, float]]:
    """Draw parameters and counts of both genes in the cells of the data.

    Data without a count of some gene, to which nothing can be fitted, are drawn again: a choice
    that rests on the data alone leaves ranks uniform.
    """
    cells = pair.cells
    for _ in range(_MOST_TRIES):
        drawn = draw_parameters(setup, pair.coefficient_mean[:, 0], 1, rng)
        x = random_counts(pair.exposure, cells.starts, drawn.of_cells, rng)[0]
        if x.sum(0).all() and x.max() < 1e6:
            break
    values = _parameters(collected.variables([drawn], setup), setup)
    truth = {name: float(v.reshape(-1)[0]) for name, v in values.items()}
    effect = None if cells.effect is None else cells.effect[:, list(pair.genes)]
    return Cells(x.astype(np.int64), cells.log_s, cells.starts, effect), truth


def _parameters(variables: dict[str, Array], setup: Setup) -> dict[str, Array]:
    """Return the parameters of the model one by one, the two genes as ``[0]`` and ``[1]``."""
    out = {}
    absent = {
        "zeta": setup.structure == "independent",
        "tau": setup.structure == "independent",
        "z_between": setup.structure != "both",
    }
    for name in _SCALARS:
        if name in variables and not absent.get(name, False):
            out[name] = variables[name]
    if setup.z_regression is not None:
        for k, name in enumerate(("Intercept", *setup.z_regression.names)):
            out[f"z_beta[{name}]"] = variables["z_beta"][..., k, 0]
        for k, group in enumerate(setup.z_regression.groups):
            out[f"within_group[{group}]"] = variables["within_group"][..., k, 0]
    if "natural_sample" in variables and not absent["zeta"]:
        out["natural_sample"] = variables["natural_sample"][..., 0, 0]
    for name in _OF_GENES:
        if name not in variables:
            continue
        values = variables[name]  # (..., sample or coefficient, pair, member)
        for g in range(2):
            one = values[..., 0, g]
            if name in ("beta", *_OF_SAMPLES):
                one = one[..., 0]  # of the first sample, and the intercept
            out[f"{name}[{g}]"] = one
    return out
