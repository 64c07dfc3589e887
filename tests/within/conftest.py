import pytest

from tests.within.support import two_arms


@pytest.fixture(scope="session")
def data():
    """6 samples of arm a with correlation 0.2 and 6 of arm b with 0.7."""
    return two_arms(0.2, 0.7)
