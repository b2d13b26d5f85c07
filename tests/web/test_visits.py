"""What is kept of visitors: bounded by number, by size and by age."""

import pytest

from gradtoken.errors import BadPicture, UnknownName
from gradtoken.web.settings import Settings, is_loopback
from gradtoken.web.visits import Desk, Kept, Shelf, Upload


def test_the_longest_unused_goes_first():
    kept = Kept(most=2, idle=100)
    first, second = kept.add("a"), kept.add("b")
    assert kept.get(first) == "a"  # used again
    third = kept.add("c")
    assert [kept.get(key) for key in (first, second, third)] == ["a", None, "c"]


def test_what_is_large_makes_room_but_the_latest_stays():
    kept = Kept(most=10, idle=100, weigh=len, held=5)
    first, second = kept.add("aaa"), kept.add("bbb")
    assert (kept.get(first), kept.get(second)) == (None, "bbb")
    last = kept.add("c" * 9)
    assert (kept.get(second), kept.get(last)) == (None, "c" * 9)


def test_old_values_are_dropped(monkeypatch):
    kept = Kept(most=10, idle=50)
    clock = [0.0]
    monkeypatch.setattr("gradtoken.web.visits.time.monotonic", lambda: clock[0])
    key = kept.add("a")
    clock[0] = 49
    assert kept.get(key) == "a"
    clock[0] = 100
    assert kept.get(key) is None
    assert not kept.values


@pytest.mark.parametrize("key", [None, 3, "", "never", ["a"], {"a": 1}])
def test_keys_that_were_never_given_find_nothing(key):
    kept = Kept(most=2, idle=100)
    kept.add("a")
    assert kept.get(key) is None
    assert kept.take(key) is None


def test_a_picture_is_taken_once():
    desk = Desk(Settings())
    key = desk.uploads.add(Upload(b"1", "a.png"))
    assert desk.upload(key).name == "a.png"
    with pytest.raises(BadPicture, match="drop it again"):
        desk.upload(key)


def test_visitors_are_apart():
    desk = Desk(Settings())
    (one, first), (two, second) = desk.visit(""), desk.visit(None)
    assert one != two
    assert first is not second
    assert desk.visit(one) == (one, first)


def test_a_page_for_the_network_offers_its_own_models_only(tmp_path):
    shelf = Shelf(Settings(host="0.0.0.0"))
    assert shelf.get(" bundled ")[0].name == "bundled"
    for name in (str(tmp_path), "google/vit-base-patch16-224", "", None):
        with pytest.raises(UnknownName, match="no model on this page"):
            shelf.get(name)


def test_only_so_many_models_stay_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("gradtoken.models.load.load", lambda name, device: name)
    shelf = Shelf(Settings(loaded=2))
    for name in ("a", "b", "a", "c"):
        assert shelf.get(name)[0] == name
    assert list(shelf.models) == ["a", "c"]
    assert shelf.get("a")[1] is not shelf.get("c")[1]  # each has its own lock


@pytest.mark.parametrize(
    ("host", "private"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("192.168.1.7", False), ("x", False)],
)
def test_who_reaches_the_page(host, private):
    assert is_loopback(host) is private
    assert Settings(host=host).private is private
