"""The exceptions and warnings that hiercorr raises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be right: the message names it, the value found and the way out."""


class EstimationWarning(UserWarning):
    """Part of a result is missing or weak; the result's ``flag`` says which part."""


class DataWarning(UserWarning):
    """Questionable input that was accepted; the message says what was done with it."""


def one_of(name: str, value: object, known: Iterable[object]) -> None:
    """Refuse a value of an option that is none of those known.

    Parameters
    ----------
    name : str
        Of the option.
    value : object
    known : iterable
        None among them is accepted and not named.

    Raises
    ------
    InputError
    """
    known = tuple(known)
    if value not in known:
        raise InputError(
            f"{name} must be one of {tuple(k for k in known if k is not None)}, not {value!r}"
        )


def between_0_and_1(name: str, value: float) -> None:
    """Refuse a level or a share that is not inside 0 and 1.

    Parameters
    ----------
    name : str
        Of the option.
    value : float

    Raises
    ------
    InputError
    """
    if not 0 < value < 1:
        raise InputError(f"{name} must lie between 0 and 1, not {value!r}")


def unknown_name(kind: str, name: object, known: Iterable[object]) -> InputError:
    """Build the error for a name that is not there, offering the nearest ones.

    Parameters
    ----------
    kind : str
        What was looked up, e.g. ``"gene"``.
    name : object
        The name asked for.
    known : iterable
        The names there are.

    Returns
    -------
    InputError
    """
    names = [str(k) for k in known]
    name = str(name) if isinstance(name, str) else name  # numpy strings show as np.str_(...)
    lower = {n.lower(): n for n in reversed(names)}
    starts = [n for n in names if n.lower().startswith(str(name).lower())][:3] if str(name) else []
    near = starts or [
        lower[n] for n in difflib.get_close_matches(str(name).lower(), list(lower), n=3, cutoff=0.6)
    ]
    if near:
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
    elif names:
        shown = ", ".join(repr(n) for n in names[:8]) + (", ..." if len(names) > 8 else "")
        hint = f"there are: {shown}"
    else:
        hint = "there are none"
    return InputError(f"unknown {kind} {name!r}; {hint}")
