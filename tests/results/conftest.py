import pytest

from tests.support import fit


@pytest.fixture(scope="module")
def result(small):
    return fit(small, per_sample=True)


@pytest.fixture(scope="module")
def one(small):
    return fit(small, target="gene0", per_sample=True)
