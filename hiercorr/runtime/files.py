"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hiercorr.errors import InputError
from hiercorr.runtime.drafts import Draft


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically: a failure leaves an existing file unchanged."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path.name!r}: there is no folder {str(path.parent)!r}")
    check_writable(path.parent)
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file under another name and move it into place at the end, unless that fails.

    Parameters
    ----------
    path : Path
        Final name.

    Yields
    ------
    Path
        Name to write to.
    """
    with Draft(path, lambda _: True) as draft:
        yield draft.path
        draft.into_place()


def check_free(path: Path, overwrite: bool) -> None:
    """Raise an error if nothing could be written under a name.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Replace what has this name.

    Raises
    ------
    FileExistsError
        If the name is taken and is not to be replaced.
    InputError
        If the parent folder does not exist.
    PermissionError
        If it is read-only.
    """
    if "\0" in str(path):
        raise InputError(f"no file can have the name {str(path)!r}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists; pass overwrite=True to replace it")
    if not path.parent.is_dir():
        raise InputError(
            f"cannot save to path={str(path)!r}: there is no folder {str(path.parent)!r}"
        )
    check_writable(path.parent)


def check_writable(folder: Path) -> None:
    """Raise an error if no file can be written to a folder."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES, f"no permission to write to the folder {str(folder.absolute())!r}"
        )
