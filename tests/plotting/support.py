"""What is on a figure."""

import numpy as np


def ink(figure):
    """Share of pixels that are not background."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    return float((pixels < 250).any(-1).mean())


def title(ax):
    own = ax.get_title()
    return own or ax.child_axes[0].get_title()
