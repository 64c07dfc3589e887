"""Files: text written whole or not at all, stored arrays that could run code refused."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from hiercorr.errors import InputError


def refuse_code(path: Path) -> None:
    """Refuse a zarr folder whose arrays would be unpickled, which runs what its author wrote."""
    for name in (".zarray", ".zmetadata", "zarr.json"):
        for file in path.rglob(name):
            if re.search(rb'"(id|name)"\s*:\s*"pickle"', file.read_bytes()):
                raise InputError(
                    f"{str(path)!r} holds pickled objects ({file.relative_to(path)}), which could run code: not read"
                )


def write_text(path: Path, text: str) -> Path:
    """Write a text file whole or not at all."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path.name!r}: there is no folder {str(path.parent)!r}")
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return path
