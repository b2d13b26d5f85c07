"""What a browser may send: any values in place of controls, buttons, texts, uploads and headers."""

import asyncio
import io
from typing import Any

import pytest
from hypothesis import strategies as st

pytest.importorskip("gradio", reason="the extra `app` is not installed")

from gradtoken.web import actions, passages
from gradtoken.web.answers import Answer
from gradtoken.web.serving import Guard, local
from gradtoken.web.settings import Settings
from gradtoken.web.subjects import opened
from gradtoken.web.visits import Desk, Upload
from tests.asking import ask, examples
from tests.fuzz.damage import JSON, WORDS, damaged
from tests.fuzz.outcomes import expected_right, tried
from tests.fuzz.test_pictures import SEEDS

USUAL = (["gradtoken"], 0.6, 0, "automatic", "bilinear", False, True)
SECRET = "<script>alert(1)"
KINDS = st.sampled_from(["class", "beside", "file", "sample", "upload"]) | JSON
CONTROLS = st.tuples(*(st.just(value) | JSON for value in USUAL))


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk(Settings())


def answered(answer: Answer | None) -> None:
    """Whatever was sent, the page gets an answer in which nothing of it is markup."""
    with expected_right("requests of a browser"):
        assert answer is not None
        assert not any(SECRET in str(part) for part in vars(answer).values() if isinstance(part, str))


@examples(40, 600)
def test_buttons(desk, count):
    visit = desk.visit("")[1]
    actions.start(desk, visit, "bundled", *USUAL)

    def pressed(kind: Any, value: Any, controls: tuple[Any, ...], waiting: bytes) -> None:
        value = desk.uploads.add(Upload(waiting, SECRET)) if kind == "upload" else value
        data = {"kind": kind, "value": value}
        answered(tried("requests of a browser", lambda: actions.press(desk, visit, data, "bundled", *controls)))

    ask(count, pressed, KINDS, JSON | st.sampled_from(["0", "3", "png"]), CONTROLS, damaged(SEEDS["PNG"]))


@pytest.mark.parametrize("kind", ["sample", "upload", "class", "beside", "file"])
@pytest.mark.parametrize(
    "value", [[], {}, None, "x" * 70_000, "9" * 5000, 10**400, "²", float("nan")], ids=lambda value: repr(value)[:20]
)
def test_buttons_that_send_no_name(desk, kind, value):
    visit = desk.visit("")[1]
    actions.start(desk, visit, "bundled", *USUAL)
    data = {"kind": kind, "value": value}
    answer = tried("requests of a browser", lambda: actions.press(desk, visit, data, "bundled", *USUAL))
    answered(answer)
    assert "expected" in answer.message or "no " in answer.message


@examples(40, 600)
@pytest.mark.parametrize("action", ["redraw", "search", "choose_model"])
def test_controls(desk, action, count):
    visit = desk.visit("")[1]
    actions.start(desk, visit, "bundled", *USUAL)
    values = {"redraw": CONTROLS, "search": st.tuples(JSON), "choose_model": st.tuples(JSON, *[JSON] * len(USUAL))}

    def sent(drawn: tuple[Any, ...]) -> None:
        call = getattr(actions, action)
        answered(tried("requests of a browser", lambda: call(desk, visit, *drawn)))

    ask(count, sent, values[action])


@examples(40, 600)
@pytest.mark.parametrize("action", ["read_text", "press_text", "redraw_text", "vary_text", "erase_text"])
def test_texts(desk, action, count):
    visit = desk.visit("")[1]
    buttons = st.tuples(st.fixed_dictionaries({"kind": KINDS, "value": JSON}), JSON)
    values = {"read_text": st.tuples(JSON, JSON, JSON, JSON), "press_text": buttons, "redraw_text": st.tuples(JSON)}

    def sent(drawn: tuple[Any, ...]) -> None:
        call = getattr(passages, action)
        answered(tried("requests of a browser", lambda: call(desk, visit, *drawn)))

    ask(count, sent, values.get(action, st.tuples()))


@examples(30, 600)
def test_keys_and_hosts(desk, count):
    def sent(key: Any, host: str) -> None:
        name, _ = tried("requests of a browser", lambda: desk.visit(key))
        with expected_right("requests of a browser"):
            assert name != key
            assert not local(host) or host.startswith(("localhost", "127.", "[::1]", "::1"))
        desk.visits.take(name)

    ask(count, sent, JSON, WORDS)


@examples(40, 600)
def test_uploads_are_opened_within_the_limit_of_the_page(count):
    def sent(content: bytes, name: str) -> None:
        picture = tried("requests of a browser", lambda: opened(content, name, 10_000))
        if picture is not None:
            with expected_right("requests of a browser"):
                assert picture.width * picture.height <= 10_000

    ask(count, sent, st.sampled_from(sorted(SEEDS)).flatmap(lambda kind: damaged(SEEDS[kind])), WORDS)


PATHS = ["/upload", "/gradio_api/file=/etc/passwd", "/gradio_api/upload", "/gradio_api/proxy=http://x", "/"]


@examples(40, 600)
def test_requests_under_any_name_are_answered_once(desk, count):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def sent(path: str, names: list[tuple[bytes, bytes]]) -> None:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        scope = {"type": "http", "path": path, "headers": names}
        guard = Guard(app, desk.settings)
        tried("requests of a browser", lambda: asyncio.run(guard(scope, None, send)))
        with expected_right("requests of a browser"):
            hosts = [value for name, value in names if name == b"host"]
            allowed = bool(hosts) and local(hosts[-1].decode("latin-1"))
            assert said[0]["status"] == 403 or (allowed and not path.startswith("/gradio_api"))

    headers = st.lists(st.tuples(st.sampled_from([b"host", b"x-gradtoken-name"]) | st.binary(), st.binary(max_size=20)))
    hosts = st.sampled_from([b"localhost", b"localhost:7860", b"evil.example", b"127.0.0.1.evil", b""])
    named = st.tuples(hosts, headers).map(lambda drawn: [*drawn[1], (b"host", drawn[0])])
    ask(count, sent, st.sampled_from(PATHS) | WORDS, named)


def test_files_to_take_away_are_made_in_memory(desk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    visit = desk.visit("")[1]
    actions.start(desk, visit, "bundled", *USUAL)
    answer = actions.press(desk, visit, {"kind": "file", "value": "npz"}, "bundled", *USUAL)
    assert answer.file["name"].endswith(".npz")
    assert io.BytesIO(answer.file["content"].encode()).read(4)
    assert not list(tmp_path.iterdir())
