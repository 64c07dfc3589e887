"""Type-I error and coverage of the default; the studies and benchmarks in validation/."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from hiercorr.simulate import simulate_counts
from tests.support import fit
from validation import worlds
from validation.pages import PAGES, pages
from validation.peers import PEERS, installed
from validation.runner import RESULTS, Parts, load, read_results, run_study, study_names
from validation.scores import Tally


@pytest.mark.slow
@pytest.mark.parametrize(
    ("samples", "cells", "mean"), [(3, 600, 1.0), (8, 300, 0.5), (20, 200, 1.0)]
)
def test_size_and_coverage(samples, cells, mean):
    """Genes (2k, 2k+1) correlate at 0.4 within samples; all genes at 0.8 between them."""
    genes, panels = 60, 12
    between = np.full((genes, genes), 0.8) + 0.2 * np.eye(genes)
    first = np.arange(0, genes, 2)
    rejected, cell_rejected, covered, bias = [], [], [], []
    for seed in range(panels):
        adata, truth = simulate_counts(
            samples,
            cells,
            genes,
            mean=mean,
            within=0.4,
            between=between,
            cell_imbalance=0.3,
            seed=[samples, seed],
        )
        ds = fit(adata).dataset
        pairs, null = (first, first + 1), (first, (first + 3) % genes)
        rho = truth["within"].values[pairs]
        rejected.append(ds["p_value"].values[null] < 0.05)
        covered.append(
            (ds["ci_lower"].values[pairs] <= rho) & (rho <= ds["ci_upper"].values[pairs])
        )
        bias.append(ds["correlation"].values[pairs] - rho)
        pooled = fit(adata, estimator="pooled", uncertainty="none").dataset
        cell_rejected.append(pooled["cell_p_value"].values[null] < 0.05)
    n = panels * len(first)
    size, coverage = np.mean(rejected), np.mean(covered)
    assert 0.035 - 3 * np.sqrt(0.035 * 0.965 / n) < size < 0.06 + 3 * np.sqrt(0.06 * 0.94 / n)
    assert 0.935 - 3 * np.sqrt(0.06 * 0.94 / n) < coverage < 0.975 + 3 * np.sqrt(0.025 * 0.975 / n)
    assert abs(np.mean(bias)) < 0.02
    assert np.mean(cell_rejected) > 2 * 0.05  # cells as units do reject what is not there


LONG = {
    *("across_cell_types", "between_tests", "calibration", "depth", "dominant_sample"),
    *("donor_weights", "donors_or_cells", "foreign_cells", "intervals", "module_units"),
    *("nested_samples", "real_data", "repeated_donors", "screens", "signatures", "three_mice"),
    *("variability", *(s for s in study_names() if s.startswith("bayesian"))),
}  # 1 to 12 s


def by_time(studies):
    """Long studies are in the slow set."""
    marks = {study: [pytest.mark.slow] if study in LONG else [] for study in studies}
    return [pytest.param(study, marks=found) for study, found in marks.items()]


@pytest.mark.parametrize("study", by_time(study_names()))
def test_quick_studies_hold(study):
    table, refuted = run_study(study, quick=True, jobs=1)
    assert not refuted
    assert len(table)
    assert all(isinstance(line, str) for line in load(study).remarks(table))


@pytest.mark.slow
def test_command_line_of_the_studies():
    command = [
        sys.executable,
        "-m",
        "validation",
        "run",
        "dominant_sample",
        "--quick",
        "--replicates",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "dominant_sample (" in done.stdout
    assert "holds" in done.stdout


@pytest.mark.sampled(5)
@pytest.mark.parametrize("study", study_names())
def test_committed_results_have_the_grid_they_claim(study):
    table, about = read_results(study)
    grid = load(study).grid(quick=False)
    done = table.drop_duplicates(list(grid.columns))[list(grid.columns)]
    assert len(done) == len(grid)
    rows = [
        {
            tuple(round(float(v), 5) if isinstance(v, float | np.floating) else v for v in r)
            for r in t.to_numpy(object)
        }
        for t in (done, grid)
    ]
    assert rows[0] == rows[1]  # the values too; the results hold floats in single precision
    assert load(study).verdict(table) == json.loads(about["refuted_by"])
    assert about["claim"] == load(study).CLAIM
    assert list(RESULTS.glob(f"{study}*.png"))


def test_the_default_is_within_its_standard_on_at_least_2000_pairs():
    table, _ = read_results("calibration")
    ours = table[table["method"] == "within, jackknife"]
    assert (ours["pairs"] >= 2000).all()
    assert not load("calibration").verdict(table)


@pytest.mark.slow
def test_pages_are_those_of_the_committed_results():
    wanted = pages()
    assert {f.name for f in PAGES.iterdir()} == set(wanted)
    for name, text in wanted.items():
        assert (PAGES / name).read_text(encoding="utf-8") == text, (
            f"run python -m validation pages: {name}"
        )


def test_an_interrupted_study_goes_on(tmp_path, monkeypatch):
    study = load("between_corrected")
    monkeypatch.setattr(study, "grid", lambda quick: pd.DataFrame({"a": [0, 1, 2]}))
    monkeypatch.setattr(
        "validation.runner.joblib.Parallel",
        lambda *_, **__: lambda jobs: (f(*a, **k) for f, a, k in jobs),
    )
    ran, broken = [], {1}

    def run_cell(row, replicates, seed):
        if row["a"] in broken:
            raise KeyboardInterrupt
        ran.append(row["a"])
        return pd.DataFrame([row | {"value": float(np.random.default_rng(seed).normal())}])

    monkeypatch.setattr(study, "run_cell", run_cell)
    monkeypatch.setattr(study, "verdict", lambda table: [])
    monkeypatch.setattr(study, "figures", lambda table: {})
    with pytest.raises(KeyboardInterrupt):
        run_study("between_corrected", quick=True, replicates=2, folder=tmp_path)
    broken.clear()
    table, _ = run_study("between_corrected", quick=True, replicates=2, folder=tmp_path)
    assert ran == [0, 1, 2]
    whole, _ = run_study("between_corrected", quick=True, replicates=2)
    pd.testing.assert_frame_equal(table, whole)
    saved, about = read_results("between_corrected", tmp_path)
    np.testing.assert_allclose(saved["value"], whole["value"], rtol=1e-6)
    assert about["replicates"] == 2
    assert not list(tmp_path.glob(".*"))


def test_parts_of_other_settings_are_not_taken(tmp_path):
    Parts(tmp_path / "p", "one").write(0, pd.DataFrame({"a": [1]}))
    assert 0 in Parts(tmp_path / "p", "one").read()
    assert not Parts(tmp_path / "p", "two").read()


def test_tally_counts():
    tally = Tally()
    nan = np.nan
    tally.add(
        "m",
        0.5,
        p=np.array([0.01, 0.2, nan, 0.01]),
        estimate=np.array([0.6, 0.4, nan, 0.9]),
        interval=(np.array([0.4, 0.0, nan, 0.6]), np.array([0.8, 0.4, nan, 1.0])),
        insufficient=np.array([False, False, False, True]),
    )
    tally.add("m", 0.5, p=np.array([0.5, 0.5, 0.5, 0.5]))
    row = tally.table(["method"]).iloc[0]
    assert (row["panels"], row["pairs"]) == (2, 8)
    assert row["flagged"] == pytest.approx(1 / 8)
    assert row["type_1"] == pytest.approx(1 / 6)
    assert row["type_1_all"] == pytest.approx(2 / 7)
    assert row["coverage"] == pytest.approx(1 / 2)
    assert row["coverage_all"] == pytest.approx(1 / 3)
    assert row["width"] == pytest.approx(0.4)
    assert row["bias"] == pytest.approx(0.0)
    assert row["rmse"] == pytest.approx(0.1)


@pytest.mark.slow
def test_worlds_have_the_correlation_they_say():
    rng = np.random.default_rng(3)
    for distribution in ("lognormal", "gamma"):
        panel = [
            worlds.Block(40.0, 0.0, 0.6, 0.0),
            worlds.Block(40.0, 0.8, 0.0, 0.2),
            worlds.Block(40.0, 0.8, 0.3, 0.2),
        ]
        pairs = worlds.pairs_of(panel)
        adata = worlds.draw(panel, np.full(150, 400), rng, distribution=distribution)
        x = adata.X.toarray() / adata.obs["depth"].to_numpy()[:, None] * 1e4
        sample = adata.obs["sample"].to_numpy()
        r = np.array([np.corrcoef(x[sample == s].T) for s in np.unique(sample)])
        for block in panel:
            values = r[:, *pairs[block.key]]
            assert values.mean() == pytest.approx(block.truth(), abs=0.03)
            assert values.std() == pytest.approx(
                np.hypot(block.tau * (1 - block.rho**2), 0.06), abs=0.05
            )
        means = np.log(np.array([x[sample == s].mean(0) for s in np.unique(sample)]))
        across = pairs[40.0, 0.8, 0.0, 0.0]
        assert np.corrcoef(means.T)[across].mean() == pytest.approx(0.8, abs=0.06)
        assert abs(r[:, *across].mean()) < 0.01


@pytest.mark.parametrize("peer", list(PEERS))
def test_peers_give_a_number_for_each_pair(peer):
    if peer not in installed():
        pytest.skip("not installed")
    if peer.startswith("memento") and int(np.__version__.split(".")[0]) > 1:
        pytest.skip("memento-de needs numpy 1: it gives no p-values here")
    panel = worlds.blocks([1.0], [0.0], [(0.0, 0.0), (0.6, 0.0), (0.3, 0.0)])
    adata = worlds.draw(panel, np.full(4, 200), np.random.default_rng(0))
    at = (np.array([0, 1]), np.array([1, 2]))
    p, estimate = installed()[peer](adata, at)
    for values in (p, estimate):
        assert values is None or np.isfinite(values).all()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")
@pytest.mark.slow
def test_simulation_based_calibration_with_20_replicates():
    _, refuted = run_study("bayesian_sbc", quick=True, replicates=20)
    assert not refuted


@pytest.mark.slow
def test_scaling_benchmark_runs():
    command = [sys.executable, "-m", "validation.benchmarks.scaling", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "failed" not in done.stderr
    for name in ("pooled", "within, from disk", "numpy corrcoef", "BLAS limit"):
        assert name in done.stdout
