"""All pairs and one target give the same tests."""

import numpy as np
from scipy import stats


def test_all_pairs_agree_with_the_target(adjusted):
    whole, one = adjusted.fit(precision="double"), adjusted.fit(target="FTL", moderated=False)
    for name in ("correlation", "fisher_z", "se", "ci_lower", "ci_upper", "statistic", "p_value"):
        row = whole.dataset[name].sel(gene="FTL").values
        np.testing.assert_allclose(row, one.dataset[name].values[0], rtol=1e-7, err_msg=name)
    single = adjusted.fit()
    np.testing.assert_allclose(single.matrix(), whole.matrix(), atol=1e-6)
    assert single.matrix().dtypes.iloc[0] == np.float32
    assert single.dataset["p_value"].dtype == np.float64
    q = whole.matrix("q_value").values[np.triu_indices(300, 1)]
    p = whole.matrix("p_value").values[np.triu_indices(300, 1)]
    np.testing.assert_allclose(q, stats.false_discovery_control(p), rtol=1e-9)
    assert np.array_equal(np.diag(whole.matrix()), np.ones(300))
