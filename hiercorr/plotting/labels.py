"""Names beside points, placed so that they cover neither points nor each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
_DIRECTIONS = np.array(
    [(1, 0), (-1, 0), (1, 1), (-1, 1), (0, 1), (1, -1), (-1, -1), (0, -1)], float
)
_DISTANCES = np.array([0.0, 4.0, 10.0, 17.0, 25.0, 35.0, 47.0, 61.0])  # points, from the nearest
_LINE_FROM = 5.0  # labels at this distance or further have a line to their point


def place_labels(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    points: tuple[ArrayLike, ArrayLike],
    *,
    size: float,
    colour: str,
    radius: float = 1.5,
) -> None:
    """Write names beside points, the first ones where there is the best room.

    Parameters
    ----------
    ax : Axes
        Its position, scales and limits must be final.
    x, y : array_like
        Named points, in data coordinates.
    names : sequence of str
    points : (array_like, array_like)
        All points, which names should not cover.
    size : float
        Size of the letters in points.
    colour : str
        Colour of the lines from names to points.
    radius : float
        Radius of the points, in 1/72 inch.
    """
    to_pixels = ax.transData.transform
    named = to_pixels(np.column_stack([np.asarray(x, float), np.asarray(y, float)]))
    every = to_pixels(np.column_stack([np.asarray(v, float) for v in points]))
    every = every[np.isfinite(every).all(1)]
    pt = ax.figure.dpi / 72  # pixels per point
    frame = ax.get_window_extent()
    bounds = np.array([frame.x0, frame.y0, frame.x1, frame.y1])
    taken = np.empty((0, 4))
    for at, name in zip(named, names, strict=True):
        text = ax.text(0, 0, name, fontsize=size, transform=ax.transAxes)
        box = text.get_window_extent()
        extent = np.array([box.width, box.height])
        boxes, distance = candidates(at, extent, radius + 1.5, pt)
        cost = costs(boxes, distance, every, taken, bounds, radius * pt)
        best = int(np.argmin(cost))
        x0, y0, x1, y1 = boxes[best]
        text.remove()
        line = distance[best] >= _LINE_FROM + radius
        anchor = ax.transData.inverted().transform(at)
        final = ax.annotate(
            name,
            tuple(anchor),
            ((x0 + x1) / 2 / pt - at[0] / pt, (y0 + y1) / 2 / pt - at[1] / pt),
            textcoords="offset points",
            fontsize=size,
            ha="center",
            va="center",
            zorder=6,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.5,
                "shrinkA": 0,
                "shrinkB": radius,
                "relpos": tuple(np.clip((at - (x0, y0)) / ((x1 - x0), (y1 - y0)), 0, 1)),
            }
            if line
            else None,
        )
        final.set_in_layout(False)
        taken = np.vstack([taken, boxes[best]])


def candidates(at: Array, size: Array, nearest: float, pt: float) -> tuple[Array, Array]:
    """List the places of a name around a point, nearest first.

    Parameters
    ----------
    at : ndarray, shape (2,)
        The point in pixels.
    size : ndarray, shape (2,)
        Width and height of the name in pixels.
    nearest : float
        Smallest distance in points.
    pt : float
        Pixels per point.

    Returns
    -------
    ndarray, shape (n, 4)
        Left, bottom, right, top in pixels.
    ndarray, shape (n,)
        Distances from the point, in points.
    """
    steps = itertools.product(_DISTANCES + nearest, _DIRECTIONS)
    distance, centre = zip(*((d, at + v * (d * pt + size / 2)) for d, v in steps), strict=True)
    middle = np.array(centre)
    return np.hstack([middle - size / 2, middle + size / 2]), np.array(distance)


def costs(
    boxes: Array, distance: Array, points: Array, taken: Array, bounds: Array, radius: float
) -> Array:
    """Compute what each place costs: other names below it, points, distance, leaving the axes.

    Parameters
    ----------
    boxes : ndarray, shape (n, 4)
    distance : ndarray, shape (n,)
    points : ndarray, shape (m, 2)
    taken : ndarray, shape (k, 4)
        Names that have their place.
    bounds : ndarray, shape (4,)
        The axes.
    radius : float
        Of the points, in pixels.

    Returns
    -------
    ndarray, shape (n,)
    """
    near = np.array([boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max()])
    close = points[((points >= near[:2]) & (points <= near[2:])).all(1)]
    low, high = boxes[:, None, :2] - radius, boxes[:, None, 2:] + radius
    covered = ((close > low) & (close < high)).all(2).sum(1)
    width = np.minimum(boxes[:, None, 2:], taken[None, :, 2:]) - np.maximum(
        boxes[:, None, :2], taken[None, :, :2]
    )
    overlapped = (width > -1).all(2).sum(1)
    outside = (boxes[:, :2] < bounds[:2]).any(1) | (boxes[:, 2:] > bounds[2:]).any(1)
    return 100 * overlapped + np.minimum(covered, 20) + distance / 12 + 300 * outside
