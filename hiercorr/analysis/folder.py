"""The folder of an analysis: names of its files, results saved so far, and whose it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hiercorr.analysis.steps import Part
from hiercorr.errors import DataWarning, InputError
from hiercorr.plotting.style import freeze, save
from hiercorr.results.result import CorrelationResult, load
from hiercorr.results.table_files import write_excel, write_table
from hiercorr.runtime.files import check_place, check_writable, write_text, written_whole
from hiercorr.runtime.locks import Busy, Lock
from hiercorr.runtime.user_warnings import warn

_STATE = "progress.json"
_OWN = ("results", "tables", "figures")


class Folder:
    """Folder of one analysis.

    Parameters
    ----------
    path : str or Path
        Created if it does not exist; its parent must.
    specification : str
        Full specification of the analysis as text; saved results are reused only if it is
        unchanged.
    overwrite : bool
        Replace another analysis.
    reports : sequence of str
        Names of the reports that the analysis writes, which a later one removes if it replaces it.

    Raises
    ------
    InputError
        If the folder holds another analysis or other files, or another process writes to it.
    """

    def __init__(
        self, path: str | Path, specification: str, overwrite: bool, reports: Sequence[str] = ()
    ) -> None:
        self.path = Path(path)
        if os.path.isdir(self.path):
            check_writable(self.path)
        elif os.path.lexists(self.path):
            raise InputError(f"output={str(path)!r} is a file; name a folder")
        else:
            check_place(self.path, "output")
        key = hashlib.sha256(specification.encode()).hexdigest()
        state = self._state()
        held = sorted(p.name for p in self.path.iterdir()) if self.path.is_dir() else []
        others = [name for name in held if name != f"{_STATE}.lock"]
        if state is None and others:
            raise InputError(
                f"output={str(path)!r} holds files that no analysis wrote, such as {others[0]!r}; "
                "name a new or empty folder"
            )
        if state is not None and state.get("key") != key and not overwrite and self._has_results():
            raise InputError(
                f"output={str(path)!r} holds an analysis of other data or with other options; "
                "name another folder, or replace it with overwrite=True"
            )
        self.path.mkdir(exist_ok=True)
        try:
            self._lock = Lock(self.path / f"{_STATE}.lock")
        except Busy:
            raise InputError(f"another process is writing to output={str(path)!r}") from None
        if overwrite and state is not None:
            for name in _OWN:
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in state.get("reports", []):
                (self.path / Path(name).name).unlink(missing_ok=True)
        write_text(self.path / _STATE, json.dumps({"key": key, "reports": list(reports)}) + "\n")
        for name in _OWN:
            (self.path / name).mkdir(exist_ok=True)

    def close(self) -> None:
        """Let other processes write to the folder."""
        self._lock.release()

    def _has_results(self) -> bool:
        return any(self.path.glob("results/*")) or any(self.path.glob("*report.html"))

    def _state(self) -> dict[str, Any] | None:
        try:
            state = json.loads((self.path / _STATE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def result(self, part: Part, name: str) -> Path:
        """Return the path of a result."""
        return self.path / "results" / f"{name_of(part, name)}.zarr"

    def saved(self, part: Part, name: str) -> CorrelationResult | None:
        """Load a result of an interrupted analysis; None if it is not there, or damaged."""
        path = self.result(part, name)
        if not path.exists():
            return None
        try:
            found = load(path)
        except InputError as error:
            warn(f"{path.name} is computed again: {error}", DataWarning)
            return None
        return found if isinstance(found, CorrelationResult) else None

    def save(self, part: Part, name: str, result: CorrelationResult) -> None:
        """Save a result."""
        result.save(self.result(part, name), overwrite=True)

    def write_tables(self, tables: dict[str, pd.DataFrame]) -> None:
        """Write tables as CSV, each, and as one Excel file with a sheet for each."""
        for name, table in tables.items():
            write_table(table, self.path / "tables" / f"{name}.csv")
        write_excel(tables, self.path / "tables" / "tables.xlsx")

    def write_figure(self, name: str, figure: Any) -> None:
        """Write a figure as PDF with editable text and as PNG; it keeps its layout from now on."""
        freeze(figure)
        for kind in ("pdf", "png"):
            with written_whole(self.path / "figures" / f"{name}.{kind}") as draft:
                save(figure, draft, kind)


def name_of(part: Part, name: str) -> str:
    """Return the name of a file of one part, e.g. ``CD14_Monocytes-ISG15-within``."""
    return "-".join(file_name(n) for n in (part.cell_type, part.target, name) if n)


def file_name(text: str) -> str:
    """Return a text with characters that are safe in names of files; others become ``_``.

    Texts that differ only in such characters are told apart by a digest.
    """
    safe = re.sub(r"[^\w.+]+", "_", text, flags=re.ASCII).strip("._") or "_"
    told = safe == text.replace(" ", "_") and len(safe) <= 80
    return safe if told else f"{safe[:70]}_{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
