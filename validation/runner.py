"""Run the cells of a study's grid in processes, resume after an interruption, write table and figure."""

from __future__ import annotations

import importlib
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
import pandas as pd

from validation import studies

RESULTS = Path(__file__).parent / "results"


def study_names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(studies.__path__))


def _one(name: str, row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    import numba
    import threadpoolctl

    numba.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        return importlib.import_module(f"validation.studies.{name}").run_cell(row, replicates, seed)


def run_study(
    name: str, quick: bool, replicates: int, jobs: int, folder: Path | None
) -> tuple[pd.DataFrame, list[str]]:
    """Run one study; cells of the grid that are already in the folder of parts are not run again."""
    study = importlib.import_module(f"validation.studies.{name}")
    grid = study.grid(quick)
    seeds = np.random.SeedSequence(study.SEED).spawn(len(grid))
    parts = folder / f".{name}-parts" if folder else None
    if parts:
        parts.mkdir(parents=True, exist_ok=True)
    tables: dict[int, pd.DataFrame] = {}
    # spawn: numba's OpenMP threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {}
        for k, row in enumerate(grid.to_dict("records")):
            done = parts / f"{k}.csv" if parts else None
            if done and done.exists():
                tables[k] = pd.read_csv(done)
            else:
                waiting[k] = pool.submit(_one, name, row, replicates, seeds[k])
        for k, job in waiting.items():
            tables[k] = job.result()
            if parts:
                tables[k].to_csv(parts / f"{k}.csv", index=False)
            click.echo(f"{name}: {len(tables)} of {len(grid)} cells of the grid", err=True)
    table = pd.concat([tables[k] for k in sorted(tables)], ignore_index=True)
    refuted = study.verdict(table)
    if folder:
        import matplotlib

        matplotlib.use("Agg")
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.5g")
        study.figure(table).savefig(folder / f"{name}.png", dpi=110)
        for file in parts.iterdir():
            file.unlink()
        parts.rmdir()
    return table, refuted
