"""Whatever a browser sends as controls is checked."""

import math

import pytest

from gradtoken.draw.style import Style
from gradtoken.errors import BadTarget, GradTokenError, UnknownName
from gradtoken.web.asked import COLOURS, Asked

GOOD = (["gradtoken", "legrad"], 0.5, 0.25, "viridis", "nearest", True, False)


def but(place, value):
    return (*GOOD[:place], value, *GOOD[place + 1 :])


def test_controls_become_options_of_the_drawing():
    asked = Asked.of(*GOOD)
    assert asked.methods == ("gradtoken", "legrad")
    options = {"opacity": 0.5, "threshold": 0.25, "colours": "viridis", "interpolation": "nearest", "lines": True}
    assert asked.style(2) == options
    assert Style.of(**options).masks


def test_what_is_as_usual_is_left_out():
    assert Asked().style(1) == {}
    assert Asked().style(2) == {"shared_scale": True}


@pytest.mark.parametrize("value", [[], "gradtoken", None, 3, {"a": 1}])
def test_methods_are_a_list(value):
    with pytest.raises(BadTarget, match="at least one method"):
        Asked.of(*but(0, value))


@pytest.mark.parametrize("value", [["gradtokn"], [None], [["gradtoken"]]])
def test_unknown_methods_are_refused(value):
    with pytest.raises(UnknownName, match="no method"):
        Asked.of(*but(0, value))


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "0.5", None, True, [0.5]])
def test_shares_are_numbers_from_0_to_1(place, value):
    with pytest.raises(BadTarget, match="from 0 to 1"):
        Asked.of(*but(place, value))


@pytest.mark.parametrize(("place", "value"), [(3, "jet"), (3, None), (3, ["inferno"]), (4, "cubic"), (4, None)])
def test_only_what_is_offered_is_taken(place, value):
    with pytest.raises(GradTokenError, match="no "):
        Asked.of(*but(place, value))


def test_every_colour_map_exists():
    for name in COLOURS[1:]:
        Style.of(colours=name)
