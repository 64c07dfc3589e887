"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hiercorr.errors import InputError
from hiercorr.runtime.drafts import Draft

_LONGEST = 255  # bytes of the name of a file, in all common file systems


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically: a failure leaves an existing file unchanged."""
    check_place(path)
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
    check_place(path)
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists; pass overwrite=True to replace it")


def check_place(path: Path, option: str = "path") -> None:
    """Raise an error if there can be no file or folder of a name.

    Parameters
    ----------
    path : Path
    option : str
        Name of the argument, for the message.

    Raises
    ------
    InputError
        If no file can have this name, or the parent folder does not exist.
    PermissionError
        If it is read-only.
    """
    try:
        size = len(os.fsencode(path.name))
    except UnicodeEncodeError:
        size = 0
    if "\0" in str(path) or not (size or path == Path()):
        raise InputError(f"no file can have the name {str(path)!r}")
    if size > _LONGEST:
        raise InputError(
            f"cannot save to {option}={str(path)!r}: the name has {size} bytes, and no more "
            f"than {_LONGEST} are possible; choose a shorter one"
        )
    if not os.path.isdir(path.parent):
        raise InputError(
            f"cannot save to {option}={str(path)!r}: there is no folder {str(path.parent)!r}"
        )
    check_writable(path.parent)


def is_there(path: Path) -> bool:
    """Return whether there is a file or a folder of a name, whatever the name is.

    Raises
    ------
    InputError
        If there is something else, such as a pipe, from which reading might never end.
    """
    if not os.path.exists(path):  # unlike Path.exists, also for names that are too long
        return False
    if os.path.isfile(path) or os.path.isdir(path):
        return True
    raise InputError(f"{str(path)!r} is neither a file nor a folder, but a pipe or a device")


def check_writable(folder: Path) -> None:
    """Raise an error if no file can be written to a folder."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES, f"no permission to write to the folder {str(folder.absolute())!r}"
        )
