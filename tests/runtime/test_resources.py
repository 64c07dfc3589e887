"""Amounts of memory as text."""

import pytest

import hiercorr as hc
from hiercorr.runtime import resources

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("500MB", 5 * 10**8), (123, 123), ("1.5 kB", 1500), ("2g", 2 * 10**9)],
)
def test_memory_as_text(text, size):
    assert resources.memory_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "-3", 0, "4 GiBs", "1.2.3GB", ""])
def test_memory_that_is_none(text):
    with pytest.raises(hc.InputError, match="memory_limit"):
        resources.memory_bytes(text)
