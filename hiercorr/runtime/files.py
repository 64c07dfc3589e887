"""Files: atomic writing of text, and refusal of stored arrays that could run code."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from hiercorr.errors import InputError


def refuse_code(path: Path) -> None:
    """Raise an error for a zarr folder with pickled arrays: unpickling can run arbitrary code."""
    for name in (".zarray", ".zmetadata", "zarr.json"):
        for file in path.rglob(name):
            if re.search(rb'"(id|name)"\s*:\s*"pickle"', file.read_bytes()):
                raise InputError(
                    f"{str(path)!r} was not read: it contains pickled objects "
                    f"({file.relative_to(path)}), which could run code"
                )


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically: a failure leaves an existing file unchanged."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path.name!r}: there is no folder {str(path.parent)!r}")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
