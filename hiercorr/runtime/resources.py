"""Memory and threads: how much of each is available or allowed."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator
from numbers import Real
from pathlib import Path, PurePosixPath

import numba

from hiercorr.errors import InputError, whole_number
from hiercorr.runtime import blas, workers

_MOST_THREADS = 100_000
_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes(limit: int | str | None) -> int | None:
    """Convert a memory limit to bytes.

    Parameters
    ----------
    limit : int, str or None
        Bytes, or text such as ``"4GiB"`` or ``"500MB"``; None: the memory available now.

    Returns
    -------
    int or None
        Bytes; None if `limit` is None and the available memory is unknown.

    Raises
    ------
    InputError
        If `limit` is not an amount of memory.
    """
    if limit is None:
        return available_memory()
    if isinstance(limit, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]i?)?b?\s*", limit.lower())
        try:
            size = float(match[1]) * _UNITS[match[2] or ""] if match else -1.0
        except ValueError:
            size = -1.0
    else:
        size = float(limit) if isinstance(limit, Real) and not isinstance(limit, bool) else -1.0
    if not 0 < size < math.inf:
        raise InputError(
            f"memory_limit={limit!r} is not an amount of memory: "
            "pass a number of bytes or text such as '4GiB'"
        )
    return int(size)


def available_memory() -> int | None:
    """Return the available memory in bytes; None if it is unknown.

    Limits of containers and batch systems (control groups, address space) count as well as the
    memory of the machine.
    """
    known = [size for size in (_free(), group_memory(), _address_space()) if size is not None]
    return min(known) if known else None


def _free() -> int | None:
    """Return the memory that the machine has left."""
    try:
        # Includes reclaimable caches, unlike SC_AVPHYS_PAGES.
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def group_memory(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return what the control groups of this process, version 1 or 2, leave; None without a limit.

    File pages that the kernel would drop under pressure count as available.

    Parameters
    ----------
    groups : Path
        Groups of the process.
    root : Path
        Folder of the groups. In a container, the group of the process may be its root.
    """
    left: list[int] = []
    for line in _lines(groups):
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        top = root / "memory" if kinds else root
        names = ("limit_in_bytes", "usage_in_bytes") if kinds else ("max", "current")
        inside = PurePosixPath(path.lstrip("/"))
        for folder in {top / part for part in (inside, *inside.parents)}:
            limit, used = (_number(folder / f"memory.{name}") for name in names)
            if limit is not None and used is not None:
                left.append(max(limit - used + _droppable(folder / "memory.stat"), 0))
    return min(left, default=None)


def _droppable(stat: Path) -> int:
    found = dict(line.split(" ", 1) for line in _lines(stat) if " " in line)
    return int(found.get("total_inactive_file", found.get("inactive_file", "0")))


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max": no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []


def _address_space() -> int | None:
    """Return what a limit on the address space (ulimit -v) leaves; None without one."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return None
    return None if limit == resource.RLIM_INFINITY else max(limit - used, 0)


def gib(size: float) -> str:
    """Format a number of bytes in GiB, or in MiB below 0.1 GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"


@contextlib.contextmanager
def threads(n_jobs: int | None) -> Iterator[int]:
    """Run BLAS and the compiled loops on a number of threads.

    Parameters
    ----------
    n_jobs : int or None
        Number of threads; None: all that both may use. A limit on BLAS set by the caller
        (threadpoolctl, OMP_NUM_THREADS) then also applies to the compiled loops.

    Yields
    ------
    int
        Number of threads of the compiled loops.
    """
    if n_jobs is None:
        use, limit = min(workers.allowed(), blas.allowed() or workers.allowed()), None
    else:
        whole_number("n_jobs", n_jobs, maximum=_MOST_THREADS)
        n_jobs = int(n_jobs)
        use, limit = min(n_jobs, numba.config.NUMBA_NUM_THREADS), n_jobs
    with workers.compiled_threads(use), blas.at_most(limit) if limit else contextlib.nullcontext():
        yield use
