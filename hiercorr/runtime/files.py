"""Files that are written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hiercorr.errors import InputError
from hiercorr.runtime.drafts import Draft


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically: a failure leaves an existing file unchanged."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path.name!r}: there is no folder {str(path.parent)!r}")
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
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists; pass overwrite=True to replace it")
    if not path.parent.is_dir():
        raise InputError(
            f"cannot save to path={str(path)!r}: there is no folder {str(path.parent)!r}"
        )
