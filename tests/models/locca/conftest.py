"""A small LocCa and a batch of five, of which captions 0 and 3 are in parallel."""

import pytest

from tests.support.small_locca import locca_and_batch


@pytest.fixture(scope="session")
def whole():
    return locca_and_batch(5)


@pytest.fixture(scope="session")
def locca(whole):
    return whole[0]


@pytest.fixture(scope="session")
def vocabulary(locca):
    return locca.head.vocabulary


@pytest.fixture(scope="session")
def images(whole):
    return whole[1]


@pytest.fixture(scope="session")
def texts(whole):
    return whole[2]
