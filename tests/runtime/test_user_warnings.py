"""Warnings point at the caller outside the package."""

import runpy
import subprocess
import sys
import warnings

import pytest

import hiercorr as hc
from hiercorr.runtime.user_warnings import kept_for, warn, warn_of_parts


def line():
    return sys._getframe(1).f_lineno


def test_a_direct_call():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn("text", hc.DataWarning)
        here = line() - 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, here)
    assert caught[0].category is hc.DataWarning


@pytest.mark.parametrize("deep", ["fit", "aggregate", "check_design"])
def test_calls_deep_in_the_package(small, deep):
    few = small[(small.obs["sample"] != "s5") | (small.obs_names.isin(small.obs_names[-4:]))].copy()
    call = {
        "fit": lambda: hc.CSCore(few, "sample", depth="depth"),
        "aggregate": lambda: hc.aggregate(few, "sample", depth="depth"),
        "check_design": lambda: hc.check_design(few, "sample", depth="depth"),
    }[deep]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    found = [w for w in caught if w.category is hc.DataWarning]
    assert found
    assert {w.filename for w in found} == {__file__}


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """An analysis whose models meet the same fault; catch_warnings empties Python's register."""
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(
        "import warnings\n"
        "import hiercorr as hc\n"
        "adata = hc.datasets.glioblastoma()\n"
        "options = {'depth': 'total_counts', 'subset': {'condition': 'ctrl'}}\n"
        "hc.CSCore(adata, 'sample_id', **options)\n"
        "with warnings.catch_warnings():\n"
        "    hc.Pseudobulk(adata, 'sample_id', **options)\n"
        "hc.check_design(adata, 'sample_id', **options)\n"
    )
    return path


@pytest.mark.slow
def test_a_script_is_shown_with_its_own_line_and_the_same_text_once(script):
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert f"{script}:5: DataWarning" in done.stderr
    assert done.stderr.count("sum over only 300 genes") == 1


@pytest.mark.parametrize(("action", "times"), [("default", 1), ("always", 3), ("ignore", 0)])
def test_filters_of_the_user_decide_how_often(script, action, times):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)  # what python -W does
        runpy.run_path(str(script))
    said = [w for w in caught if "sum over only 300 genes" in str(w.message)]
    assert len(said) == times
    assert {w.filename for w in said} <= {str(script)}


def test_warnings_of_several_fits_are_issued_once_with_their_names():
    kept = {}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for part, messages in (("T", "ab"), ("B", "ac")):
            with kept_for(kept, part):
                for message in messages:
                    warn(message, hc.DataWarning)
        assert not found
        warn_of_parts(kept, "cell type")
        warn("a", hc.DataWarning)
    wanted = ["cell type 'T', 'B': a", "cell type 'T': b", "cell type 'B': c", "a"]
    assert [str(w.message) for w in found] == wanted


def test_warnings_at_the_end_of_a_context_point_at_the_users_line():
    adata = hc.datasets.ipsc_cycle()
    with pytest.warns(hc.DataWarning, match="plate") as caught:
        hc.traps(adata, "donor", "CDK1", genes=["CDK1", "UBE2C", "TOP2A"], depth="depth")
    assert {w.filename for w in caught} == {__file__}
