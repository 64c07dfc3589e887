"""Run the cells of a study's grid in processes, resume interrupted runs, write table and figures.

A study is a module with CLAIM, SEED, REPLICATES, MODELS (names of files in models/),
``grid(quick)``, ``run_cell(row, replicates, seed)``, ``verdict(table)``, ``remarks(table)`` and
``figures(table)``.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pandas as pd
import scipy
import xarray as xr
from rich.progress import track

import hiercorr
from hiercorr.specification import read_specification
from validation import studies

RESULTS = Path(__file__).parent / "results"
QUICK_REPLICATES = 4


def study_names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(studies.__path__))


def load(name: str) -> ModuleType:
    return importlib.import_module(f"validation.studies.{name}")


def _one(
    name: str, k: int, row: dict, replicates: int, seed: np.random.SeedSequence
) -> tuple[int, pd.DataFrame]:
    import threadpoolctl

    from hiercorr.runtime.workers import compiled_threads

    with compiled_threads(1), threadpoolctl.threadpool_limits(1):
        return k, load(name).run_cell(row, replicates, seed)


class Parts:
    """Finished cells of an interrupted run; those of a run with other settings are thrown away."""

    def __init__(self, folder: Path | None, settings: str) -> None:
        self.folder = folder
        if folder is None:
            return
        about = folder / "settings"
        if not (about.exists() and about.read_text() == settings):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            about.write_text(settings)

    def read(self) -> dict[int, pd.DataFrame]:
        files = [] if self.folder is None else sorted(self.folder.glob("*.pkl"))
        return {int(f.stem): pd.read_pickle(f) for f in files}

    def write(self, k: int, table: pd.DataFrame) -> None:
        if self.folder is not None:
            unfinished = self.folder / f"{k}.unfinished"
            table.to_pickle(unfinished)
            unfinished.rename(self.folder / f"{k}.pkl")


def run_study(
    name: str, quick: bool, replicates: int | None = None, jobs: int = 2, folder: Path | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Run one study and return its table and what refutes its claim.

    Parameters
    ----------
    name : str
    quick : bool
        A small grid.
    replicates : int, optional
        Panels per cell of the grid. None: what the study asks for.
    jobs : int
        Processes.
    folder : Path, optional
        Where table, figures and the finished cells of an interrupted run are kept; None: nowhere.
    """
    study = load(name)
    grid = study.grid(quick)
    replicates = replicates or (
        getattr(study, "QUICK_REPLICATES", QUICK_REPLICATES) if quick else study.REPLICATES
    )
    seeds = np.random.SeedSequence(study.SEED).spawn(len(grid))
    settings = sha256(
        f"{grid.to_json()} {replicates} {study.SEED} {hiercorr.__version__}".encode()
    ).hexdigest()
    parts = Parts(folder and folder / f".{name}-parts", settings)
    tables = parts.read()
    waiting = [(k, row) for k, row in enumerate(grid.to_dict("records")) if k not in tables]
    # loky starts new interpreters: those of BLAS do not all survive a fork
    pool = joblib.Parallel(jobs, return_as="generator_unordered", batch_size=1)
    work = pool(joblib.delayed(_one)(name, k, row, replicates, seeds[k]) for k, row in waiting)
    for k, table in _shown(work, name, len(waiting), quick):
        tables[k] = table
        parts.write(k, table)
    table = pd.concat([tables[k] for k in sorted(tables)], ignore_index=True)
    refuted = study.verdict(table)
    if folder:
        write_results(folder, name, table, refuted, replicates)
        shutil.rmtree(folder / f".{name}-parts")
    return table, refuted


def _shown(work: Iterator, name: str, total: int, quick: bool) -> Iterator:
    return work if quick else track(work, description=name, total=total)


def versions() -> str:
    python = platform.python_version()
    numpy_scipy = f"numpy {np.__version__}, scipy {scipy.__version__}"
    return f"hiercorr {hiercorr.__version__}, Python {python}, {numpy_scipy}"


def write_results(
    folder: Path, name: str, table: pd.DataFrame, refuted: list[str], replicates: int
) -> None:
    """The tidy table with what it came from as netCDF, and the figures as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    study = load(name)
    attrs: dict[str, Any] = {
        "study": name,
        "title": (study.__doc__ or "").strip(),
        "claim": study.CLAIM,
        "refuted_by": json.dumps(refuted),
        "seed": study.SEED,
        "replicates": replicates,
        "models": json.dumps({m: read_specification(m).question for m in study.MODELS}),
        "versions": versions(),
    }
    data = xr.Dataset.from_dataframe(table.rename_axis("row")).assign_attrs(attrs)
    numbers = [v for v in data if data[v].dtype.kind in "fiub"]
    encoding = {
        v: {"zlib": True} | ({"dtype": "f4"} if data[v].dtype.kind == "f" else {}) for v in numbers
    }
    data.to_netcdf(folder / f"{name}.nc", engine="h5netcdf", encoding=encoding)
    for key, figure in study.figures(table).items():
        figure.savefig(folder / f"{name}{'-' if key else ''}{key}.png", dpi=110)


def read_results(name: str, folder: Path = RESULTS) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Table and provenance of a study's committed results."""
    with xr.open_dataset(folder / f"{name}.nc", engine="h5netcdf") as data:
        return data.load().to_dataframe(), data.attrs
