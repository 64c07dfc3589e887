"""Priors from the shipped file and from the user's."""

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.bayes.priors import Priors, read_priors

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")


def test_priors_from_file_and_shipped(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[priors.z_between]\ndistribution = "normal"\nsigma = 0.3\n')
    priors = read_priors(path)
    assert isinstance(priors, Priors)
    assert priors.describe()["z_between"] == "normal(sigma=0.3)"
    assert priors.describe()["tau"] == read_priors().describe()["tau"]
    rho = np.tanh(read_priors().draw("z_within", 20000, np.random.default_rng(0)))
    assert rho.std() == pytest.approx(np.sqrt(1 / 5), rel=0.03)  # LKJ(2) in two dimensions
    path.write_text("[priors")
    with pytest.raises(hc.InputError, match="not valid TOML"):
        read_priors(path)
