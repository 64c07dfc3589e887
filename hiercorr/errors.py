"""The exceptions and warnings that hiercorr raises."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

_LINES = re.compile(r"\s*\n\s*")  # of the value of a table or an array


class InputError(ValueError):
    """Invalid input; the message names the argument, its value and a remedy, in one line."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(_LINES.sub(" ", a) if isinstance(a, str) else a for a in args))


class NotInThisResult(InputError, AttributeError):
    """An attribute that only other results have, so that ``hasattr`` is False."""


class EstimationWarning(UserWarning):
    """Part of a result could not be estimated or is unreliable; see the result's ``flag``."""


class DataWarning(UserWarning):
    """Questionable input was accepted; the message states how it was treated."""


def one_of(name: str, value: object, known: Iterable[object]) -> None:
    """Raise an error if the value of an option is not one of those known.

    Parameters
    ----------
    name : str
        Name of the option.
    value : object
        Value that was given.
    known : iterable
        Accepted values; None may be among them and is not listed in the message.

    Raises
    ------
    InputError
        If the value is not known.
    """
    known = tuple(known)
    if not isinstance(value, str | int | float | None) or value not in known:
        raise InputError(
            f"{name} must be one of {tuple(k for k in known if k is not None)}, not {value!r}"
        )


def between_0_and_1(name: str, value: object) -> None:
    """Raise an error if a level or proportion is not strictly between 0 and 1.

    Parameters
    ----------
    name : str
        Name of the option.
    value : float
        Value that was given.

    Raises
    ------
    InputError
        If the value is not a number between 0 and 1.
    """
    if not _is_number(value) or not 0 < value < 1:
        raise InputError(f"{name} must lie between 0 and 1, not {value!r}")


def number(
    name: str, value: object, low: float = -math.inf, high: float = math.inf, optional: bool = False
) -> None:
    """Raise an error if a value is not a finite number from `low` to `high`.

    Parameters
    ----------
    name : str
        Name of the option.
    value : float
        Value that was given.
    low, high : float
        Smallest and largest accepted value.
    optional : bool
        Whether None is accepted.

    Raises
    ------
    InputError
        If the value is not a number in this range.
    """
    if value is None and optional:
        return
    if not _is_number(value) or not math.isfinite(value) or not low <= value <= high:
        limits = f" of at least {low:g}" if high == math.inf and low > -math.inf else ""
        limits = f" from {low:,.10g} to {high:,.10g}" if high < math.inf else limits
        raise InputError(f"{name} must be a number{limits}, not {value!r}")


def numbers(name: str, value: Any) -> NDArray[np.float64]:
    """Return an array of numbers, none of which was anything else before.

    numpy turns booleans, texts of digits and times into numbers, also one among the numbers of a
    list or of an array of objects.

    Parameters
    ----------
    name : str
        Name of the option.
    value : array_like
        Value that was given; None among the numbers is NaN.

    Raises
    ------
    InputError
        If it is no array, or contains anything but numbers.

    Examples
    --------
    >>> from hiercorr.errors import numbers
    >>> numbers("depth", [100, None])
    array([100.,  nan])
    """
    try:
        values = np.asarray(value)
        if values.dtype == object or not hasattr(value, "dtype"):
            each = np.asarray(value, object)
            if each.ndim == 0 and not isinstance(value, Real):
                raise InputError(f"{name} must be a number or an array of numbers, not {value!r}")
            values = np.array([_one_number(name, v) for v in each.ravel()], float)
            return values.reshape(each.shape)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise InputError(f"{name} must be an array of numbers ({error})") from error
    if values.dtype.kind not in "fiu":
        raise InputError(
            f"{name} must be a number or an array of numbers, not an array of {values.dtype}"
        )
    return np.asarray(values, np.float64)


def _one_number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real | Decimal):
        raise InputError(f"{name} must be a number or an array of numbers, and contains {value!r}")
    return float(value)


MAX_REPEATS = 1_000_000  # of a bootstrap or permutations


def whole_number(
    name: str,
    value: object,
    minimum: int = 1,
    optional: bool = False,
    maximum: int | None = None,
) -> None:
    """Raise an error if a value is not a whole number of at least `minimum`.

    Parameters
    ----------
    name : str
        Name of the option.
    value : int
        Value that was given.
    minimum : int
        Smallest accepted value.
    optional : bool
        Whether None is accepted.
    maximum : int, optional
        Largest accepted value.

    Raises
    ------
    InputError
        If the value is not such a number.
    """
    if value is None and optional:
        return
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < minimum:
        raise InputError(f"{name} must be a whole number of at least {minimum}, not {value!r}")
    if value > (sys.maxsize if maximum is None else maximum):
        maximum = sys.maxsize if maximum is None else maximum
        raise InputError(f"{name} must be no more than {maximum:,}, not {value!r}")


def true_or_false(name: str, value: object, optional: bool = False) -> None:
    """Raise an error if a switch is neither True nor False.

    Parameters
    ----------
    name : str
        Name of the option.
    value : bool
        Value that was given.
    optional : bool
        Whether None is accepted.

    Raises
    ------
    InputError
        If the value is not a boolean.
    """
    if not (value is None and optional) and not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, not {value!r}")


def text(name: str, value: object, optional: bool = False) -> None:
    """Raise an error if a name is not a string.

    Parameters
    ----------
    name : str
        Name of the option.
    value : str
        Value that was given.
    optional : bool
        Whether None is accepted.

    Raises
    ------
    InputError
        If the value is not a string.
    """
    if not (value is None and optional) and not isinstance(value, str):
        raise InputError(f"{name} must be a string, not {value!r}")


def instance_of(name: str, value: object, kind: Any, expected: str, optional: bool = False) -> None:
    """Raise an error if an argument is not of the expected kind.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : object
        Value that was given.
    kind : type or tuple of type
        Accepted types.
    expected : str
        Accepted values, as the message describes them.
    optional : bool
        Whether None is accepted.

    Raises
    ------
    InputError
        If the value has another type.
    """
    if not (value is None and optional) and not isinstance(value, kind):
        raise InputError(f"{name} must be {expected}, not {type(value).__name__}")


def listed(name: str, value: Any, expected: str) -> list[Any]:
    """Return the values of an argument that must be a list or another collection.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : iterable
        Value that was given.
    expected : str
        Accepted values, as the message describes them.

    Raises
    ------
    InputError
        If the value is one text or number.
    """
    if not isinstance(value, str | bytes):
        try:
            return list(value)
        except TypeError:  # also of an array without dimensions
            pass
    raise InputError(f"{name} must be {expected}, not {value!r}")


def valid_seed(value: object) -> None:
    """Raise an error if a seed is neither None, a non-negative whole number nor a numpy Generator.

    Parameters
    ----------
    value : object
        Value of ``seed``.

    Raises
    ------
    InputError
        If it cannot seed a generator of random numbers.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0
    if value is not None and not whole and not isinstance(value, np.random.Generator):
        raise InputError(
            f"seed must be a non-negative whole number or a numpy Generator, not {value!r}"
        )


def without_effect(**options: tuple[object, object, str]) -> None:
    """Raise an error for options that were given although they cannot act.

    Parameters
    ----------
    **options : tuple of (value, default, str)
        For each option its value, its default and what it needs to act.

    Raises
    ------
    InputError
        At the first option whose value is not its default.

    Examples
    --------
    >>> from hiercorr.errors import without_effect
    >>> without_effect(n_bootstrap=(1000, 1000, "uncertainty='bootstrap'"))
    """
    for name, (value, default, needs) in options.items():
        if value is not default and not _equal(value, default):
            raise InputError(f"{name}={value!r} has no effect without {needs}: leave it out")


def _equal(value: object, default: object) -> bool:
    try:
        return bool(value == default)
    except ValueError:  # arrays
        return False


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def n_of(n: int, noun: str) -> str:
    """Return a number of things.

    Examples
    --------
    >>> n_of(1, "pair"), n_of(1200, "pair")
    ('1 pair', '1,200 pairs')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def unknown_name(kind: str, name: object, known: Iterable[object]) -> InputError:
    """Build the error for an unknown name, offering the nearest ones.

    Parameters
    ----------
    kind : str
        Kind of name, e.g. ``"gene"``.
    name : object
        Name that was given.
    known : iterable
        Known names.

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
