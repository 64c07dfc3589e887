"""Commands of modules, direct partners and evidence agree with the functions they call."""

import warnings

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import hiercorr as hc
from hiercorr import specification
from hiercorr.cli import main
from hiercorr.simulate import simulate_counts

SETS = {"one": ["gene0", "gene1", "gene2"], "two": ["gene5", "gene6"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    rho = np.eye(16)
    rho[:8, :8] = 0.6
    np.fill_diagonal(rho, 1)
    data, _ = simulate_counts(8, 100, 16, mean=[3, 2] * 8, within=rho, seed=1)
    number = pd.factorize(data.obs["sample"])[0]
    data.obs["arm"] = np.where(number % 2, "b", "a")
    data.obs["donor"] = np.array(list("abcd"))[number // 2]
    data.obs["age"] = np.random.default_rng(0).normal(size=8)[number]
    data.obs["stress"] = np.random.default_rng(1).normal(size=data.n_obs)
    data.write_h5ad(folder / "d.h5ad")
    lines = ["\t".join([name, "x", *genes]) for name, genes in SETS.items()]
    (folder / "s.gmt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def given(folder):
    return {"data": folder / "d.h5ad", "sample": "sample", "depth": "depth"}


def run(folder, *line):
    words = [line[0], folder / "d.h5ad", "--sample", "sample", "--depth", "depth", *line[1:]]
    done = CliRunner().invoke(main, [str(w) for w in words])
    return done


def saved(folder, tmp_path, name, *line):
    done = run(folder, name, *line, "-o", tmp_path / "r.zarr", "--overwrite")
    assert done.exit_code == 0, done.output
    return hc.load(tmp_path / "r.zarr")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning")
def test_commands_are_the_functions(folder, given, tmp_path):
    sets = ("--sets", folder / "s.gmt")
    data, model = given["data"], hc.CSCore(**given)
    change = hc.modules.differential_correlation(**given, condition="arm", sets=SETS)
    sums = hc.Pseudobulk(**given)
    cases = {
        ("modules", *sets): model.module_correlation(SETS),
        ("modules", *sets, "--weights", "eigengene"): model.module_correlation(SETS, "eigengene"),
        ("modules", *sets, "--membership"): model.module_membership(SETS),
        ("score", *sets, "--score", "stress"): model.score("stress", sets=SETS),
        ("module-differences", *sets, "--condition", "arm"): change,
        ("module-traits", *sets, "--trait", "age"): sums.module_traits(SETS, "age"),
        ("direct-partners", "--resamples", "20", "--seed", "1"): hc.direct_partners(
            model, n_bootstrap=20, seed=1
        ),
    }
    for line, wanted in cases.items():
        found = saved(folder, tmp_path, *line)
        pd.testing.assert_frame_equal(found.pairs(), wanted.pairs(), rtol=1e-5)
    assert data.exists()


@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning")
def test_tables_are_those_of_the_functions(folder, given, tmp_path):
    sets, out = ("--sets", folder / "s.gmt"), tmp_path / "t.csv"
    model = hc.CSCore(**given)
    result = model.fit(per_sample=True, uncertainty="none")
    obs = model.counts.obs.drop_duplicates("sample").set_index("sample")
    for flags, values in (
        ((), hc.modules.connectivity(SETS, result)),
        (("--centrality", "--formula", "~ age"), hc.modules.centrality(result, SETS)),
    ):
        done = run(folder, "connectivity", *sets, "--condition", "arm", *flags, "-o", out)
        assert done.exit_code == 0, done.output
        formula = "~ age" if flags else None
        wanted = hc.modules.compare_donors(values, obs, "arm", formula)
        found = pd.read_csv(out).sort_values("p_value")["p_value"]
        np.testing.assert_allclose(found, wanted["p_value"].sort_values(), rtol=1e-6)
        out.unlink()
    done = run(folder, "preservation", *sets, "--permutations", "200", "-o", out)
    assert done.exit_code == 0, done.output
    wanted = hc.modules.preservation(SETS, result, permutations=200)
    assert sorted(pd.read_csv(out)["z"]) == pytest.approx(sorted(wanted["z"]))


@pytest.mark.filterwarnings("ignore::hiercorr.EstimationWarning")
def test_donors_of_several_samples_are_the_units_of_tables(folder, given, tmp_path):
    sets, out = ("--sets", folder / "s.gmt"), tmp_path / "t.csv"
    line = ("preservation", *sets, "--permutations", "200")
    done = run(folder, *line, "-o", out)
    assert "use --block donor" in done.output
    done = run(folder, *line, "--block", "donor", "-o", out, "--overwrite")
    assert "--block" not in done.output
    model = hc.CSCore(**given, block="donor")
    result = model.fit(per_sample=True, uncertainty="none")
    donors = model.counts.obs.drop_duplicates("sample").set_index("sample")["donor"]
    wanted = hc.modules.preservation(SETS, result, permutations=200, donors=donors)
    found = pd.read_csv(out, index_col=0).loc[wanted.index]
    assert (found["donors"] == 4).all()
    np.testing.assert_allclose(found["excess_p_value"], wanted["excess_p_value"], rtol=1e-6)
    line = ("connectivity", *sets, "--condition", "arm")
    done = run(folder, *line, "-o", out, "--overwrite")
    warned = [w for w in done.output.splitlines() if "use --block donor" in w]
    assert len(warned) == 1
    assert "8 samples of 'sample' come from 4 values" in warned[0]
    for given_as in (("--block", "donor"), ("--formula", "~ (1 | donor)")):
        done = run(folder, *line, *given_as, "-o", out, "--overwrite")
        assert done.exit_code == 0, done.output
        assert "come from" not in done.output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning")
def test_modules_are_found_written_and_tested_in_other_donors(folder, given, tmp_path):
    out = tmp_path / "found.gmt"
    options = ("--q", "1", "--min-correlation", "0.3", "--folds", "2", "-o", out)
    done = run(folder, "find-modules", *options)
    assert done.exit_code == 0, done.output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = hc.modules.find_modules(hc.CSCore(**given).fit(), q=1.0, min_correlation=0.3)
    assert hc.datasets.read_gmt(out) == wanted.to_dict()
    assert set(wanted.to_dict()["M1"]) == {f"gene{k}" for k in range(8)}
    assert "preserved" in done.output
    assert saved(folder, tmp_path, "modules", "--sets", folder / "s.gmt") is not None


@pytest.mark.parametrize("name", ["modules", "module_differences", "module_traits"])
def test_specifications_of_modules_run(folder, tmp_path, name):
    stated = tmp_path / "mine.toml"
    text = (specification._folder() / f"{name}.toml").read_text(encoding="utf-8")
    text = text.replace('ferritin = ["FTL", "FTH1"]', 'one = ["gene0", "gene1"]')
    text = text.replace('ribosome = ["RPS2", "RPLP0"]', 'two = ["gene5", "gene6"]')
    stated.write_text(text.replace('condition = "condition"', 'condition = "arm"'))
    words = ["fit", stated, folder / "d.h5ad", "--sample", "sample", "--depth", "depth"]
    done = CliRunner().invoke(main, [str(w) for w in [*words, "-o", tmp_path / "r.nc"]])
    assert done.exit_code == 0, done.output
    assert list(hc.load(tmp_path / "r.nc").genes) == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("modules", "--sets", "nowhere.gmt"), "nowhere.gmt"),
        (("module-traits", "--sets", "GMT", "--trait", "agee"), "did you mean 'age'"),
        (("module-differences", "--sets", "GMT", "--condition", "amr"), "did you mean 'arm'"),
        (("score", "--score", "stress", "--weights", "equal"), "--weights has no effect"),
        (("direct-partners", "--shrinkage", "2"), "shrinkage must be a number from 0.001 to 0.95"),
        (("find-modules",), "must end in .gmt"),
    ],
)
def test_refusals(folder, tmp_path, line, message):
    words = [folder / "s.gmt" if w == "GMT" else w for w in line]
    done = run(folder, *words, "-o", tmp_path / "r.zarr")
    assert done.exit_code == 2
    assert message in done.output
    assert not list(tmp_path.iterdir())
