"""Time and memory by cells, genes, non-zeros and samples, alongside every peer installed.

    python -m validation.benchmarks.scaling [--peer CSCORE_PYTHON] [--memento PYTHON] [--axes AXIS
    ...] [--what NAME ...]

One axis at a time is moved from the base design. Each measurement is a process of its own on the
same counts from the same seed, with a limit of time; memory is the peak beyond the input. Peers:
CS-CORE Python (a checkout of its repository), memento (the interpreter of an environment of its
own: it needs numpy 1), CS-CORE in R where Rscript has it; numpy.corrcoef as a floor, which does no
statistics; and the largest product that the work needs, in BLAS alone, as the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from validation.benchmarks.cscore import make_counts, measure

BASE = {"cells": 20_000, "genes": 2_000, "nonzero": 0.1, "samples": 20}
AXES: dict[str, list[float]] = {
    "cells": [1_000, 5_000, 20_000, 100_000, 1_000_000],
    "genes": [500, 1_000, 2_000, 5_000, 10_000],
    "nonzero": [0.02, 0.05, 0.1, 0.2, 0.3],
    "samples": [3, 10, 20, 50, 100],
}
QUICK: dict[str, list[float]] = {"cells": [500, 1_000]}
QUICK_BASE = {"genes": 60, "samples": 4}
OURS = ("pooled", "within", "within, one gene", "within, from disk")
LIMIT = 150  # seconds for one measurement
TRIED = 3e8  # cells x genes x 8 bytes: peers that make such an array dense are not run beyond it
Call = Callable[[], Any]


def _pooled(adata: Any, args: argparse.Namespace) -> Call:
    import hiercorr as hc

    return lambda: hc.CSCore(adata, "sample").fit("pooled", "none", progress=False)


def _within(adata: Any, args: argparse.Namespace) -> Call:
    import hiercorr as hc

    return lambda: hc.CSCore(adata, "sample").fit(progress=False)


def _target(adata: Any, args: argparse.Namespace) -> Call:
    import hiercorr as hc

    return lambda: hc.CSCore(adata, "sample").fit(target=adata.var_names[-1], progress=False)


def _from_disk(adata: Any, args: argparse.Namespace) -> Call:
    """Fit from file to file: memory must not grow with the number of cells."""
    import hiercorr as hc

    folder = Path(args.folder)
    path = folder / "counts.h5ad"
    if not path.exists():
        adata.write_h5ad(path)
    return lambda: hc.CSCore(path, "sample", scratch=folder).fit(
        out=folder / "r.zarr", overwrite=True, progress=False
    )


def _corrcoef(adata: Any, args: argparse.Namespace) -> Call:
    return lambda: np.corrcoef(
        np.log1p(adata.X.toarray().astype(np.float32)), rowvar=False, dtype=np.float32
    )


def _blas(adata: Any, args: argparse.Namespace) -> Call:
    """Time X'X of a dense block of cells, repeated for all blocks: a lower bound for all pairs."""
    from scipy.linalg import blas

    block = np.ones((min(4096, adata.n_obs), adata.n_vars), np.float32)
    out = np.zeros((adata.n_vars, adata.n_vars), np.float32)

    def run() -> None:
        for _ in range(-(-adata.n_obs // 4096)):
            blas.ssyrk(1.0, block.T, beta=1.0, c=out.T, lower=1, overwrite_c=1)

    return run


def _cscore_python(adata: Any, args: argparse.Namespace) -> Call:
    setattr(np, "Inf", np.inf)  # noqa: B010, written for numpy 1
    sys.path.insert(0, str(args.peer))
    from CSCORE import CSCORE_IRLS

    run = getattr(CSCORE_IRLS, "CSCORE_IRLS", CSCORE_IRLS)
    depth = np.asarray(adata.X.sum(1)).ravel()
    return lambda: run(adata.X, depth)


def _memento(adata: Any, args: argparse.Namespace) -> Call:
    """One gene against the others: all pairs are beyond it."""
    import memento

    adata.obs["q"] = 0.07
    pairs = [(adata.var_names[-1], g) for g in adata.var_names[:-1]]

    def run() -> None:
        data = adata.copy()
        memento.setup_memento(data, q_column="q", filter_mean_thresh=0.0)
        memento.create_groups(data, label_columns=["sample"])
        memento.compute_1d_moments(data, min_perc_group=0.5, filter_genes=False)
        memento.compute_2d_moments(data, pairs)

    return run


CONTESTANTS: dict[str, Callable[[Any, argparse.Namespace], Call]] = {
    "pooled": _pooled,
    "within": _within,
    "within, one gene": _target,
    "within, from disk": _from_disk,
    "numpy corrcoef": _corrcoef,
    "BLAS limit": _blas,
    "CS-CORE Python": _cscore_python,
    "memento, one gene": _memento,
}


def worker(args: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    call = CONTESTANTS[args.worker](_counts(args), args)
    rows = [measure(call)]
    if args.worker in OURS:
        rows.append(measure(call))
    print(json.dumps(rows))


def _counts(args: argparse.Namespace) -> Any:
    """Counts of the design, cached between processes; cells beyond 100,000 are copies."""
    import anndata as ad
    from scipy import sparse

    folder = Path(args.folder)
    path = folder / "input.npz"
    if not path.exists():
        cells = min(args.cells, 100_000)
        made = make_counts(cells, args.genes, args.nonzero, args.samples).X.astype(np.float32)
        made = made[made.getnnz(1) > 0][
            :, made.getnnz(0) > 0
        ]  # few cells leave some genes without a count
        sparse.save_npz(path, made, compressed=False)
    x = sparse.load_npz(path)
    if args.cells > x.shape[0]:
        x = sparse.vstack([x] * (args.cells // x.shape[0]), format="csr")
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"sample": np.sort(rng.integers(0, args.samples, x.shape[0])).astype(str)})
    obs.index = obs.index.astype(str)
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(x.shape[1])]))


def designs(quick: bool, moved: Sequence[str] = tuple(AXES)) -> list[dict[str, Any]]:
    """The base design with each axis moved from it."""
    base, axes = (
        ({**BASE, **QUICK_BASE}, QUICK) if quick else (BASE, {axis: AXES[axis] for axis in moved})
    )
    rows = [
        {**base, axis: value, "axis": axis} for axis, values in axes.items() for value in values
    ]
    return [
        {k: int(v) if k in ("cells", "genes", "samples") else v for k, v in row.items()}
        for row in rows
    ]


def contestants(design: dict[str, Any], args: argparse.Namespace) -> list[str]:
    """Those that are there and can be expected to end."""
    dense = design["cells"] * design["genes"] <= TRIED
    names = ["pooled", "within", "within, one gene", "BLAS limit"]
    names += ["within, from disk"] if design["axis"] == "cells" else []
    names += ["numpy corrcoef"] if dense else []
    names += ["CS-CORE Python"] if args.peer and dense else []
    names += ["memento, one gene"] if args.memento and dense else []
    return [name for name in names if name in args.what]


def run(
    design: dict[str, Any], name: str, args: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Measure one contestant on one design; failures and time-outs become a row that says so."""
    python = args.memento if name.startswith("memento") else sys.executable
    command = [
        python,
        "-m",
        "validation.benchmarks.scaling",
        "--worker",
        name,
        "--folder",
        str(folder),
    ]
    for option in ("cells", "genes", "nonzero", "samples"):
        command += [f"--{option}", str(design[option])]
    command += ["--peer", str(args.peer)] if args.peer else []
    row = {**design, "what": name}
    try:
        limit = LIMIT + 120 * (design["cells"] > 100_000)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit,
            env={**os.environ, "PYTHONPATH": "."},
        )
    except subprocess.TimeoutExpired:
        return [
            {**row, "run": "stopped", "note": f"more than {limit} s with the making of the counts"}
        ]
    if done.returncode:
        return [
            {**row, "run": "failed", "note": (done.stderr.strip().splitlines() or ["?"])[-1][:120]}
        ]
    rows = json.loads(done.stdout.splitlines()[-1])
    return [{**row, "run": "first" if k == 0 else "second", **r} for k, r in enumerate(rows)]


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of log time on log size over the larger half of each axis, by contestant."""
    out = []
    best = (
        table.dropna(subset="wall_s")
        .groupby(["axis", "what", *BASE], as_index=False, sort=False)["wall_s"]
        .min()
    )
    for (axis, what), g in best.groupby(["axis", "what"], sort=False):
        g = g.sort_values(axis).tail(3)
        if len(g) > 1:
            slope = np.polyfit(np.log(g[axis].astype(float)), np.log(g["wall_s"]), 1)[0]
            out.append({"axis": axis, "what": what, "exponent": round(float(slope), 2)})
    return pd.DataFrame(out).pivot(index="what", columns="axis", values="exponent")


STYLE = {
    "pooled": ("#0072B2", "o"),
    "within": ("#56B4E9", "s"),
    "within, one gene": ("#009E73", "^"),
    "within, from disk": ("#000000", "D"),
    "CS-CORE Python": ("#D55E00", "x"),
    "memento, one gene": ("#E69F00", "+"),
    "numpy corrcoef": ("#999999", "v"),
    "BLAS limit": ("#CC79A7", "_"),
}
NAMES = {"cells": "cells", "genes": "genes", "nonzero": "share of non-zeros", "samples": "samples"}


def figure(table: pd.DataFrame) -> Any:
    """Time and memory against each axis, both logarithmic."""
    import matplotlib.pyplot as plt

    names = {axis: label for axis, label in NAMES.items() if axis in set(table["axis"])}
    fig, axes = plt.subplots(
        2,
        len(names),
        figsize=(3.5 * len(names) + 2, 7),
        sharex="col",
        squeeze=False,
        layout="constrained",
    )
    best = (
        table.dropna(subset="wall_s")
        .groupby(["axis", "what", *BASE], as_index=False)[["wall_s", "peak_mb"]]
        .min()
    )
    for column, (axis, label) in zip(axes.T, names.items(), strict=True):
        for what, (colour, marker) in STYLE.items():
            g = best[(best["axis"] == axis) & (best["what"] == what)].sort_values(axis)
            for ax, value in zip(column, ("wall_s", "peak_mb"), strict=True):
                ax.plot(
                    g[axis],
                    g[value].clip(lower=1e-3),
                    marker=marker,
                    color=colour,
                    label=what,
                    lw=1.2,
                    ms=5,
                )
        for ax, title in zip(column, ("seconds", "peak memory beyond the input, MB"), strict=True):
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.grid(alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
            if axis == next(iter(names)):
                ax.set_ylabel(title)
        column[1].set_xlabel(label)
        ticks = sorted(best.loc[best["axis"] == axis, axis].unique())
        said = [f"{v:,.0f}" if v >= 1 else f"{v:g}" for v in ticks]
        column[1].set_xticks(ticks, said, rotation=35, fontsize=8)
        column[1].xaxis.minorticks_off()
    axes[0, -1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, help="checkout of CS-CORE Python")
    parser.add_argument("--memento", help="interpreter of an environment with memento-de")
    parser.add_argument("--quick", action="store_true", help="small designs; nothing is written")
    parser.add_argument(
        "--axes",
        nargs="+",
        choices=list(AXES),
        default=list(AXES),
        help="what is moved; left out: all. The results of others stay",
    )
    parser.add_argument(
        "--what", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS), help="who is run"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    for option, kind in (("cells", int), ("genes", int), ("nonzero", float), ("samples", int)):
        parser.add_argument(f"--{option}", type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    rows: list[dict[str, Any]] = []
    for design in designs(args.quick, args.axes):
        folder = Path(tempfile.mkdtemp())
        try:
            for name in contestants(design, args):
                rows += run(design, name, args, folder)
                print(
                    {k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()},
                    file=sys.stderr,
                )
        finally:
            shutil.rmtree(folder)
    table = pd.DataFrame(rows)
    print(exponents(table).to_string())
    if not args.quick:
        import matplotlib

        from validation.runner import (
            RESULTS,
            versions,
        )  # not above: a peer's environment need not have what it needs

        matplotlib.use("Agg")
        path, table = RESULTS / "bench_scaling.csv", table.assign(versions=versions())
        if path.exists():  # what was not run this time stays
            before = pd.read_csv(path)
            again = before["axis"].isin(args.axes) & before["what"].isin(set(table["what"]))
            table = pd.concat([before[~again], table], ignore_index=True)
        table.to_csv(path, index=False, float_format="%.4g")
        figure(table).savefig(RESULTS / "bench_scaling.png", dpi=110)


if __name__ == "__main__":
    main()
