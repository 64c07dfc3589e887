"""Type-I error and coverage of the default in simulation, with margins of three Monte-Carlo errors."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import fit

from hiercorr.simulate import simulate_counts
from validation.runner import run_study, study_names


@pytest.mark.parametrize(("samples", "cells", "mean"), [(3, 600, 1.0), (8, 300, 0.5), (20, 200, 1.0)])
def test_size_and_coverage(samples, cells, mean):
    """Genes (2k, 2k+1) correlate at 0.4 within samples; all genes at 0.8 between them."""
    genes, panels = 60, 12
    between = np.full((genes, genes), 0.8) + 0.2 * np.eye(genes)
    first = np.arange(0, genes, 2)
    rejected, cell_rejected, covered, bias = [], [], [], []
    for seed in range(panels):
        adata, truth = simulate_counts(
            samples, cells, genes, mean=mean, within=0.4, between=between, cell_imbalance=0.3, seed=[samples, seed]
        )
        ds = fit(adata).dataset
        pairs, null = (first, first + 1), (first, (first + 3) % genes)
        rho = truth["within"].values[pairs]
        rejected.append(ds["p_value"].values[null] < 0.05)
        covered.append((ds["ci_lower"].values[pairs] <= rho) & (rho <= ds["ci_upper"].values[pairs]))
        bias.append(ds["correlation"].values[pairs] - rho)
        pooled = fit(adata, estimator="pooled", uncertainty="none").dataset
        cell_rejected.append(pooled["cell_p_value"].values[null] < 0.05)
    n = panels * len(first)
    size, coverage = np.mean(rejected), np.mean(covered)
    assert 0.035 - 3 * np.sqrt(0.035 * 0.965 / n) < size < 0.06 + 3 * np.sqrt(0.06 * 0.94 / n)
    assert 0.935 - 3 * np.sqrt(0.06 * 0.94 / n) < coverage < 0.975 + 3 * np.sqrt(0.025 * 0.975 / n)
    assert abs(np.mean(bias)) < 0.02
    assert np.mean(cell_rejected) > 2 * 0.05  # cells as units do reject what is not there


@pytest.mark.parametrize("study", study_names())
def test_quick_studies_hold(study):
    table, refuted = run_study(study, quick=True, replicates=4, jobs=2, folder=None)
    assert not refuted
    assert len(table)


def test_command_line_of_the_studies():
    command = [sys.executable, "-m", "validation", "run", "dominant_sample", "--quick", "--replicates", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "dominant_sample (" in done.stdout
    assert "holds" in done.stdout


def test_committed_results_have_the_grid_they_claim():
    import pandas as pd

    from validation.runner import RESULTS
    from validation.studies import within_calibration as study

    table = pd.read_csv(RESULTS / "within_calibration.csv")
    cells = table.drop_duplicates(["samples", "cells", "mean", "rho", "between", "heterogeneity"])
    assert len(cells) == len(study.grid(quick=False))
    assert (table["pairs"] >= 2000).all()
    assert (RESULTS / "within_calibration.png").exists()
