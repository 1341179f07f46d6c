import numpy as np
import pytest

from tests.support.cute import layouts


@pytest.fixture(scope="session")
def cute() -> dict[str, np.ndarray]:
    """CuTe's layouts, by name."""
    return {name: np.array(table) for name, table in layouts().items()}
