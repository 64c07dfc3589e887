"""The parts of a Bayesian model apart from its counts."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.bayes.priors import read_priors
from hiercorr.bayes.setup import Intervals, Population, Setup
from tests.bayes.support import regression_of

ALONE, BLOCKS = np.arange(6), np.array([0, 0, 1, 1, 2, 2])


def setup(priors=None, block=ALONE, covariates=0, slopes=0, **options):
    design = np.column_stack([np.ones(6), *np.eye(6)[:covariates]])
    z = regression_of(*np.eye(6)[:slopes]) if slopes else None
    return Setup(Population(design, block, z=z), read_priors(priors), **options)


def test_blocks():
    assert (Population(np.ones((6, 1)), ALONE).blocked, Population(None, BLOCKS).blocked) == (0, 1)
    assert Population(None, BLOCKS).n_blocks == 3


@pytest.mark.parametrize(
    ("prior", "without", "with_"),
    [
        ("tau", {"heterogeneity": False}, {}),
        ("share", {}, {"block": BLOCKS}),
        ("coefficient", {}, {"covariates": 1}),
        ("z_within", {"structure": "independent"}, {"structure": "within"}),
        ("z_between", {"structure": "within"}, {}),
        ("z_coefficient", {}, {"slopes": 1}),
        ("omega", {}, {"sd_per_sample": True}),
    ],
)
def test_priors_of_absent_parameters_are_refused(prior, without, with_):
    changed = {
        "tau": {"distribution": "halfnormal", "sigma": 0.1},
        "share": {"distribution": "beta", "alpha": 3, "beta": 3},
        "coefficient": {"distribution": "normal", "mu": 0, "sigma": 0.5},
        "z_within": {"distribution": "normal", "mu": 0, "sigma": 0.2},
        "z_between": {"distribution": "normal", "mu": 0, "sigma": 0.2},
        "z_coefficient": {"distribution": "normal", "sigma": 1.0},
        "omega": {"distribution": "halfnormal", "sigma": 0.5},
    }[prior]
    setup(**without).check_priors()
    setup({prior: changed}, **with_).check_priors()
    with pytest.raises(hc.InputError, match=f"prior of '{prior}' has no effect without"):
        setup({prior: changed}, **without).check_priors()


@pytest.mark.parametrize("name", ["confidence", "rope"])
@pytest.mark.parametrize("value", [0, 1, 95, "0.9"])
def test_intervals_are_checked(name, value):
    assert Intervals().confidence == 0.95
    with pytest.raises(hc.InputError, match=f"{name} must lie between 0 and 1"):
        Intervals(**{name: value})


def test_attributes_of_results():
    found = setup(sample="donor", structure="within").attributes
    assert found["model"] == "BayesianCorrelation"
    assert (found["sample_column"], found["structure"], found["formula"]) == (
        "donor",
        "within",
        "~ 1",
    )


def test_latent_model_and_grids_refuse_what_they_would_ignore():
    with pytest.raises(hc.InputError, match="one correlation within all samples: build the model"):
        setup().check_latent()
    setup(heterogeneity=False).check_latent()
    normal = {"z_between": {"distribution": "normal", "mu": 0, "sigma": 0.2}}
    with pytest.raises(hc.InputError, match="needs an LKJ prior of 'z_between'"):
        setup(normal, heterogeneity=False).check_latent()
    with pytest.raises(hc.InputError, match="cannot be combined with block="):
        setup(block=BLOCKS, heterogeneity=False).check_latent()
    setup(normal).check_grids()
    for name, prior, text in (
        ("intercept", {"distribution": "normal", "sigma": 1}, "flat priors of the coefficients"),
        ("sd_within", {"distribution": "halfnormal", "sigma": 1}, "lognormal prior of 'sd_within'"),
    ):
        with pytest.raises(hc.InputError, match=text):
            setup({name: prior}).check_grids()


@pytest.mark.parametrize(
    ("options", "method", "absent"),
    [
        ({}, "marginal", {"share", "coefficient"}),
        ({"block": BLOCKS, "covariates": 1}, "marginal", set()),
        ({"heterogeneity": False}, "marginal", {"share", "coefficient", "tau"}),
        ({"structure": "within"}, "marginal", {"share", "coefficient", "z_between"}),
        (
            {"structure": "independent"},
            "marginal",
            {"share", "coefficient", "tau", "z_within", "z_between"},
        ),
        ({"covariates": 1}, "grids", {"share", "coefficient", "intercept"}),
        ({"heterogeneity": False}, "latent", {"share", "coefficient", "tau"}),
        ({"slopes": 1, "sd_per_sample": True}, "marginal", {"share", "coefficient"}),
    ],
)
def test_priors_that_act(options, method, absent):
    if "slopes" not in options:
        absent = absent | {"z_coefficient", "omega"}
    found = setup(**options).acting(method)
    assert set(read_priors().table) - set(found.describe()) == absent
