"""One desk with the bundled model for all tests: loading is what takes long."""

import pytest

from gradtoken.web.settings import Settings
from gradtoken.web.visits import Desk


@pytest.fixture(scope="session")
def desk():
    return Desk(Settings())


@pytest.fixture
def visit(desk):
    return desk.visit("")[1]
