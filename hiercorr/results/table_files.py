"""Tables as files: CSV, TSV, Parquet and Excel, each written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hiercorr.errors import InputError
from hiercorr.runtime.files import check_free, written_whole
from hiercorr.runtime.optional import optional

KINDS = (".csv", ".tsv", ".parquet", ".xlsx")
_MAX_SHEET = 31  # characters of the name of a sheet in Excel
_MAX_ROWS = 1_048_575  # of a sheet, below its head


def check_table_path(path: Path, overwrite: bool) -> None:
    """Raise an error if a table could not be written under this name."""
    if path.suffix.lower() not in KINDS:
        raise InputError(f"path={str(path)!r} must end in {', '.join(KINDS)}")
    check_free(path, overwrite)


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table with its index, in the format of the ending of the path.

    Parameters
    ----------
    table : DataFrame
    path : Path

    Returns
    -------
    Path
    """
    kind = path.suffix.lower()
    if kind == ".xlsx":
        return write_excel({path.stem: table}, path)
    with written_whole(path) as draft:
        if kind == ".parquet":
            optional("pyarrow", "Parquet files")
            table.reset_index().to_parquet(draft, engine="pyarrow", index=False)
        else:
            separator = "\t" if kind == ".tsv" else ","
            table.to_csv(draft, sep=separator, lineterminator="\n", encoding="utf-8")
    return path


def write_excel(tables: Mapping[str, pd.DataFrame], path: Path) -> Path:
    """Write tables as one Excel file, a sheet for each.

    Parameters
    ----------
    tables : mapping
        Tables by name.
    path : Path

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If a table has more rows than a sheet of Excel.
    """
    optional("openpyxl", "Excel files")
    for name, table in tables.items():
        if len(table) > _MAX_ROWS:
            raise InputError(
                f"table {name!r} has {len(table):,} rows, and a sheet of Excel at most "
                f"{_MAX_ROWS:,}: write .csv or .parquet, or fewer pairs"
            )
    with written_whole(path) as draft:
        content = io.BytesIO()  # of a file that fails, openpyxl would report again later
        with pd.ExcelWriter(content, engine="openpyxl") as writer:
            for sheet, table in zip(_sheets(tables), tables.values(), strict=True):
                _for_excel(table).to_excel(writer, sheet_name=sheet, index=False)
        draft.write_bytes(content.getvalue())
    return path


def _sheets(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return a different name of at most 31 characters for the sheet of each table."""
    names: list[str] = []
    for name in tables:
        plain = "".join("_" if c in "[]:*?/\\" else c for c in name) or "table"
        sheet, k = plain[:_MAX_SHEET], 1
        while sheet.lower() in {n.lower() for n in names}:
            k += 1
            sheet = f"{plain[: _MAX_SHEET - len(str(k)) - 1]}~{k}"
        names.append(sheet)
    return names


def _for_excel(table: pd.DataFrame) -> pd.DataFrame:
    out = table.reset_index()
    for k in range(out.shape[1]):
        column = out.iloc[:, k]
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            values = [_as_text(v) for v in column.astype(object)]
            out[out.columns[k]] = pd.Series(values, out.index, dtype=object)
    return out


def _as_text(value: Any) -> Any:
    """Mark a text that Excel would take for a formula; drop characters that it cannot hold."""
    if not isinstance(value, str):
        return value
    text = "".join(c for c in value if c >= " " or c in "\t\n")
    return f"'{text}" if text[:1] in tuple("=+-@") else text
