"""What is asked for becomes a plan."""

import pytest

from gradtoken.benchmark.plan import Variant
from gradtoken.benchmark.request import Request, place_of, unit_of, varied
from gradtoken.data.opening import open_data
from gradtoken.errors import BadTarget
from gradtoken.methods import METHODS
from gradtoken.models.load import load
from tests.benchmark import small


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small.pictures(tmp_path_factory.mktemp("data") / "noise", count=3, broken=False)


def plan_of(data, **asked):
    request = Request(small.PROTOCOL, data, **asked)
    return request.plan(*request.checked(), load("bundled"), blocks=12)


def test_classes_that_are_the_models_own_leave_the_model_as_it_is(data):
    """The table knows classes 0 to 2 of eleven."""
    assert len(open_data(data).classes) == 3
    assert len(plan_of(data, methods=("random",)).model.labels) == 11


def test_all_methods_unless_some_or_a_grid_are_named(data):
    assert {v.method for v in plan_of(data).variants} == set(METHODS)
    assert [v.title for v in plan_of(data, methods=("random", "random")).variants] == ["random"]
    titles = [v.title for v in plan_of(data, grid="propagation", methods=("random",)).variants]
    assert titles[:3] == ["random", "gradtoken", "gradtoken propagation=none"]
    assert len(titles) == 1 + 5


def test_options_reach_every_variant_of_a_grid(data):
    titles = [v.title for v in plan_of(data, grid="heads", settings={"depth": 3}).variants]
    assert titles == ["gradtoken depth=3", "gradtoken depth=3 heads=mean"]


def test_depths():
    titles = [v.title for v in varied(Variant("gradtoken"), "depth", 3)]
    assert titles == ["gradtoken", "gradtoken depth=2", "gradtoken depth=3"]


@pytest.mark.parametrize(("samples", "unit"), [(1, 32), (6400, 32), (6401, 64), (50_000, 256), (10**7, 256)])
def test_units_grow_with_the_data_up_to_what_one_crash_may_cost(samples, unit):
    assert unit_of(samples) == unit


def test_limit(data):
    plan = plan_of(data, methods=("random",), limit=2)
    assert (len(plan.data), plan.data.name) == (2, f"{open_data(data).name}, first 2")
    assert plan_of(data, methods=("random",), limit=9).data.name == open_data(data).name
    with pytest.raises(BadTarget, match="a limit of at least 1"):
        plan_of(data, limit=0)


def test_default_places_differ_where_runs_do(data):
    places = {place_of(plan_of(data, methods=("random",), limit=limit)) for limit in (None, 1, 2)}
    assert len(places) == 3
    assert all(place.parent.name == "runs" and "/" not in place.name for place in places)
