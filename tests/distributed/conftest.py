import pytest

from tests.support.ranks import RankPool


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    pool = RankPool(4, tmp_path_factory.mktemp("ranks"))
    yield pool
    pool.close()
