"""Names beside points."""

import matplotlib.pyplot as plt
import numpy as np

from hiercorr.plotting.labels import candidates, costs, place_labels


def test_names_cover_neither_names_nor_points_nor_leave_the_axes():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 400)) + 20  # no limits contain 0
    _, ax = plt.subplots()
    ax.scatter(x, y)
    order = np.argsort(-((x - 20) ** 2 + (y - 20) ** 2))[:12]
    ax.set(xlim=(15, 25), ylim=(15, 25))
    names = [f"gene{k}" for k in range(12)]
    place_labels(ax, x[order], y[order], names, (x, y), size=8, colour="grey")
    assert [t.get_text() for t in ax.texts] == names
    boxes = [t.get_window_extent() for t in ax.texts]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    frame = ax.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 for b in boxes)
    points = ax.transData.transform(np.column_stack([x, y]))
    covered = sum(b.contains(*p) for b in boxes for p in points)
    assert covered == 0


def test_the_nearest_free_place_is_taken():
    at, size = np.array([100.0, 100.0]), np.array([40.0, 10.0])
    boxes, distance = candidates(at, size, 3.0, 1.0)
    bounds = np.array([0.0, 0.0, 300.0, 300.0])
    free = costs(boxes, distance, at[None], np.empty((0, 4)), bounds, 1.0)
    assert boxes[np.argmin(free)].tolist() == [103.0, 95.0, 143.0, 105.0]  # to the right
    right = costs(boxes, distance, at[None], np.array([[103.0, 90.0, 150.0, 110.0]]), bounds, 1.0)
    assert boxes[np.argmin(right)].tolist() == [57.0, 95.0, 97.0, 105.0]  # to the left
    corner = costs(boxes, distance, at[None], np.empty((0, 4)), np.array([0, 0, 120.0, 120.0]), 1.0)
    assert boxes[np.argmin(corner), 2] <= 120
