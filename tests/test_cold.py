"""Compilation of the first answers, against the committed figure."""

import pandas as pd
import pytest

from validation.benchmarks import cold


@pytest.mark.slow
def test_compilation_has_not_grown_by_a_quarter():
    committed = pd.read_csv(cold.COMMITTED).set_index("step")
    limit = 1.25 * committed["relative"]
    found = cold.measure().set_index("step")
    assert found.loc["read", "compiled"] == 0
    steps = ["one gene", "all pairs", "demo"]
    assert (found["compiled"] <= committed["compiled"])[steps].all(), found
    for _ in range(2):  # another process may have disturbed it
        if not (found["relative"] > limit)[steps].any():
            break
        again = cold.measure().set_index("step")
        found["relative"] = found["relative"].combine(again["relative"], min)
    grown = found.loc[steps][found.loc[steps, "relative"] > limit[steps]]
    wanted = committed.loc[grown.index]
    assert grown.empty, f"compilation takes longer than in {cold.COMMITTED}:\n{grown}\n{wanted}"
