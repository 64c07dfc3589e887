"""The user's selection is checked and copied once."""

import dataclasses

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.counts.selection import Selection


def test_later_changes_of_the_users_arrays_have_no_effect():
    mask, depth, cells = np.ones(3, bool), np.ones(4), {"type": "B"}
    names = ["a", "b"]
    chosen = Selection("sample", genes=mask, depth=depth, subset=cells)
    named = Selection(("donor", "type"), genes=names)
    mask[0], depth[0], cells["type"] = False, 9, "T"
    names.append("c")
    assert np.asarray(chosen.genes).tolist() == [True, True, True]
    assert np.asarray(chosen.depth).tolist() == [1, 1, 1, 1]
    assert chosen.subset == {"type": "B"}
    assert named.genes == ["a", "b"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        chosen.sample = "other"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"sample": 3}, "sample"),
        ({"sample": ("donor", 3)}, "sample"),
        ({"layer": 1}, "layer"),
        ({"block": 1}, "block"),
        ({"cell_type": ["B"]}, "cell_type"),
        ({"min_cells": 0}, "min_cells"),
        ({"min_cells": True}, "min_cells"),
        ({"min_cells": 2.5}, "min_cells"),
        ({"small_samples": "drop"}, "small_samples"),
        ({"genes": True}, "genes"),
        ({"genes": 2.5}, "genes"),
        ({"depth": 3.0}, "depth"),
        ({"subset": "B"}, "subset"),
    ],
)
def test_wrong_types_are_refused_by_name(options, name):
    with pytest.raises(hc.InputError, match=name):
        Selection(**{"sample": "sample", **options})
