"""Pseudobulk against numpy, limma and anndata: all pairs, one gene, sums of a million cells.

    python -m validation.benchmarks.pseudobulk [--cells 1000000] [--repeat 3] [--limma]

Every figure is a process of its own, so that its peak memory is its own; the peer runs in the same
session. limma (R) takes the same expression and design: its moderated t are ours.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

GENES, SAMPLES = 5000, 100
ATLAS_GENES = 2000


def sums():
    """100 samples x 5,000 genes as aggregated counts with three covariates."""
    import anndata as ad
    import pandas as pd

    import hiercorr as hc

    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(2, 20, (SAMPLES, GENES)))
    obs = pd.DataFrame(
        {
            "sample": [f"s{k}" for k in range(SAMPLES)],
            "age": rng.normal(50, 9, SAMPLES),
            "sex": rng.choice(["F", "M"], SAMPLES),
            "batch": rng.choice(["a", "b"], SAMPLES),
        },
        index=[f"c{k}" for k in range(SAMPLES)],
    )
    cells = ad.AnnData(
        x.astype(np.int32), obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(GENES)])
    )
    return hc.aggregate(cells, "sample", min_cells=1)


def pairs_hiercorr():
    import hiercorr as hc

    model = hc.Pseudobulk(sums(), "sample", formula="~ age + sex + batch")
    start = time.time()
    model.fit()
    return time.time() - start


def pairs_numpy():
    from scipy import stats

    import hiercorr as hc

    model = hc.Pseudobulk(sums(), "sample", formula="~ age + sex + batch")
    y, d = model.expression.to_numpy(), model.design.matrix
    start = time.time()
    r = np.corrcoef((y - d @ np.linalg.lstsq(d, y, rcond=None)[0]).T)
    df = SAMPLES - 5
    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt(df / (1 - r**2))
        z = np.arctanh(r)
    p = 2 * stats.t.sf(np.abs(t), df)
    np.tanh(z - 1.96 / np.sqrt(df - 1)), np.tanh(z + 1.96 / np.sqrt(df - 1))
    stats.false_discovery_control(p[np.triu_indices(GENES, 1)])
    return time.time() - start


def target_hiercorr(folder: Path):
    """Moderated regressions of all genes on one; writes what limma reads and the moderated t."""
    import hiercorr as hc

    model = hc.Pseudobulk(sums(), "sample", formula="~ age + sex + batch")
    model.fit(target="g0", moderated=True)  # warm
    start = time.time()
    result = model.fit(target="g0", moderated=True)
    seconds = time.time() - start
    y = model.expression
    design = np.column_stack([model.design.matrix, y["g0"]])
    y.drop(columns="g0").to_numpy().tofile(folder / "expression")  # by row: genes by column
    design.ravel(order="F").tofile(folder / "design")
    table = result.dataset[["statistic", "p_value"]].drop_sel(gene="g0")
    np.stack([table["statistic"], table["p_value"]]).astype(float).tofile(folder / "ours")
    (folder / "shape").write_text(json.dumps([GENES - 1, SAMPLES, design.shape[1]]))
    return seconds


def measure_limma(folder: Path) -> dict:
    """Run limma on the same numbers and compare its moderated t and p."""
    shape = json.loads((folder / "shape").read_text())
    script = Path(__file__).with_name("limma_target.R")
    files = [str(folder / name) for name in ("expression", "design")]
    command = ["Rscript", "--vanilla", str(script), *files, *map(str, shape)]
    done = subprocess.run([*command, str(folder / "limma")], capture_output=True, check=True)
    ours, limma = (np.fromfile(folder / name).reshape(2, -1) for name in ("ours", "limma"))
    difference = np.nanmax(np.abs(ours - limma) / np.maximum(np.abs(limma), 1e-3), axis=1)
    return json.loads(done.stdout.splitlines()[-1]) | {"difference": difference.tolist()}


def write_atlas(path: Path, cells: int):
    import anndata as ad
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(0)
    each = 100  # non-zeros of a cell
    indices = np.empty(cells * each, np.int32)
    for a in range(0, cells, 50_000):
        n = min(50_000, cells - a)
        start = rng.integers(0, ATLAS_GENES // each, (n, each)) + np.arange(each) * (
            ATLAS_GENES // each
        )
        indices[a * each : (a + n) * each] = start.ravel()
    data = np.ones(len(indices), np.float32)
    x = sparse.csr_matrix(
        (data, indices, np.arange(0, cells * each + 1, each)), shape=(cells, ATLAS_GENES)
    )
    obs = pd.DataFrame(
        {"sample": pd.Categorical([f"s{k % 100}" for k in range(cells)])},
        index=[str(k) for k in range(cells)],
    )
    ad.AnnData(
        x, obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(ATLAS_GENES)])
    ).write_h5ad(path)
    return 0.0


def atlas_hiercorr(path: Path):
    import anndata as ad

    import hiercorr as hc

    start = time.time()
    hc.aggregate(ad.read_h5ad(path, backed="r"), "sample")
    return time.time() - start


def atlas_anndata(path: Path):
    """The usual way: read it, multiply by an indicator matrix."""
    import anndata as ad
    from scipy import sparse

    start = time.time()
    adata = ad.read_h5ad(path)
    code = adata.obs["sample"].cat.codes.to_numpy()
    member = sparse.csr_matrix((np.ones(len(code)), (code, np.arange(len(code)))))
    (member @ adata.X).toarray()
    return time.time() - start


def measure(name: str, *arguments: object) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, "--one", name, *map(str, arguments)],
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--limma", action="store_true", help="also R's limma, by Rscript")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        warnings.simplefilter("ignore")
        name, *rest = given.one
        arguments = [int(a) if a.isdigit() else Path(a) for a in rest]
        seconds = globals()[name](*arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak}))
        return
    measure("pairs_hiercorr")  # compiles once
    with tempfile.TemporaryDirectory() as folder:
        found = [measure("target_hiercorr", folder) for _ in range(given.repeat)]
        seconds = min(f["seconds"] for f in found)
        print(f"one gene against {GENES} genes x {SAMPLES} samples, 3 covariates, moderated")
        print(f"  hiercorr         {seconds:6.3f} s")
        if given.limma:
            peers = [measure_limma(Path(folder)) for _ in range(given.repeat)]
            peer = min(f["seconds"] for f in peers)
            print(f"  limma            {peer:6.3f} s, ratio {peer / seconds:.2f}")
            print(f"  relative difference of t and p: {peers[0]['difference']}")
    for title, names, arguments in (
        (
            f"all pairs, {GENES} genes x {SAMPLES} samples, 3 covariates",
            ("pairs_hiercorr", "pairs_numpy"),
            (),
        ),
        (
            f"sums of {given.cells:,} cells x {ATLAS_GENES} genes from disk",
            ("atlas_hiercorr", "atlas_anndata"),
            ("atlas",),
        ),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "atlas.h5ad"
            if arguments:
                measure("write_atlas", path, given.cells)
            runs = {
                n: [measure(n, *([path] if arguments else [])) for _ in range(given.repeat)]
                for n in names
            }
        print(title)
        for name, found in runs.items():
            seconds = [f["seconds"] for f in found]
            print(
                f"  {name:16} {min(seconds):6.1f}-{max(seconds):.1f} s, peak "
                f"{max(f['peak_mb'] for f in found):,.0f} MB"
            )
        ours, peer = (min(f["seconds"] for f in runs[n]) for n in names)
        print(f"  ratio {peer / ours:.2f}")


if __name__ == "__main__":
    main()
