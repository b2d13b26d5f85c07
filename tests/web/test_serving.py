"""The server without a browser: what it lets in, what it says of itself, and that it leaves nothing behind."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gradtoken.errors import GradTokenError, MissingExtra
from gradtoken.web import serving
from gradtoken.web.settings import Settings

pytest.importorskip("gradio", reason="the extra `app` is not installed")


def start(folder, **settings):
    """A server of its own, and its address. It is given `folder` for temporary files."""
    code = "from functools import partial; from gradtoken.web.serving import serve; "
    code += "from gradtoken.web.settings import Settings; "
    code += f"serve(Settings(port=0, **{settings!r}), partial(print, flush=True))"
    environment = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    found = re.search(r"http://\S+", server.stdout.readline())
    assert found, "the server did not start"
    return server, found[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    server, address = start(folder, bytes=200_000)
    yield address, folder
    server.terminate()
    server.wait(timeout=200)
    server.stdout.close()
    assert not list(folder.iterdir()), "temporary files were left behind"


def ask(address, data=None, **headers):
    """Status, headers and content of an answer."""
    request = urllib.request.Request(address, data=data, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_the_page_names_nothing_outside(server):
    status, headers, content = ask(server[0])
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    config = content.decode().split("window.gradio_config = ")[1]
    assert '"analytics_enabled": false' in config or '"analytics_enabled":false' in config


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1].evil.example", ""]
)
def test_other_names_than_this_machines_are_refused(server, host):
    assert ask(server[0], Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1", "[::1]:7860", "[::1]"])
def test_names_of_this_machine_are_answered(host):
    guard = serving.Guard(None, Settings())
    assert guard.refusal("/", {b"host": host.encode()}) == ""
    assert guard.refusal("/", {b"host": b"10.0.0.9"})
    assert serving.Guard(None, Settings(host="0.0.0.0")).refusal("/", {b"host": b"10.0.0.9"}) == ""


def test_pictures_come_from_the_page_and_are_of_a_limited_size(server):
    address = f"{server[0]}/upload"
    assert ask(address, b"x")[0] == 403, "another site can send a body, but not this header"
    assert ask(address, b"x", X_Gradtoken_Name="..%2F..%2Fa.png")[0] == 200
    status, _, content = ask(address, bytes(200_001), X_Gradtoken_Name="a.png")
    assert status == 413
    assert b"larger" in content
    assert ask(address, X_Gradtoken_Name="a.png")[0] == 404


@pytest.mark.parametrize("path", ["upload", "file=/etc/passwd", "file/etc/passwd", "deep_link", "proxy=http://a.b"])
def test_gradios_own_ways_to_files_are_closed(server, path):
    data = b"x" if path == "upload" else None
    assert ask(f"{server[0]}/gradio_api/{path}", data)[0] == 403


def test_nothing_is_written_while_it_serves(server):
    ask(f"{server[0]}/upload", b"picture" * 999, X_Gradtoken_Name="a.png")
    assert not [path for path in Path(server[1]).rglob("*") if path.is_file()]


def test_a_port_that_is_taken_is_said(server):
    port = int(server[0].rsplit(":", 1)[1])
    with pytest.raises(GradTokenError, match="give another --port"):
        serving.listening(Settings(port=port))


def test_a_first_model_that_is_none_ends_the_server(tmp_path):
    code = "from gradtoken.web.serving import serve; from gradtoken.web.settings import Settings; "
    code += "serve(Settings(port=0, models=('no such model',)))"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400, env=environment)
    assert "UnknownName: no model 'no such model'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_without_the_extra_the_command_is_named(monkeypatch):
    monkeypatch.setattr(serving, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'gradtoken\[app\]'"):
        serving.serve(Settings())
