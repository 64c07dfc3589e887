"""Files: atomic writing of text."""

from __future__ import annotations

from pathlib import Path

from hiercorr.errors import InputError
from hiercorr.runtime.drafts import Draft


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically: a failure leaves an existing file unchanged."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path.name!r}: there is no folder {str(path.parent)!r}")
    with Draft(path, lambda draft: True) as draft:
        draft.path.write_text(text, encoding="utf-8")
        draft.into_place()
    return path
