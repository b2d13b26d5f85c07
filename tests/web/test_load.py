"""Twenty visitors at the same time for a minute: no error, nobody sees another one's picture, memory stays flat."""

import io
import json
import re
import secrets
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gradtoken

pytest.importorskip("gradio", reason="the extra `app` is not installed")

from gradtoken.defaults import METHOD
from tests.web.test_actions import USUAL, maps_in
from tests.web.test_serving import ask, start

pytestmark = pytest.mark.slow
VISITORS, SECONDS = 20, 60
GROWTH = 60_000  # kB that may come once all visitors were there and the first half of the time is over


class Visitor(threading.Thread):
    """Sends its own picture again and again, and looks at two classes of it, as the page's script does."""

    until = float("inf")

    def __init__(self, address, numbers, index):
        super().__init__()
        self.address, self.numbers = address, numbers
        self.session = secrets.token_hex(6)
        self.rounds, self.failure = 0, ""
        noise = np.random.default_rng(index).integers(0, 256, (60 + index, 80, 3), np.uint8)
        self.picture = Image.fromarray(noise).resize((160, 120 + index))
        self.expected = gradtoken.explain(self.picture, target=[0, 1], method=METHOD, allow_blank=True)

    def run(self):
        try:
            while time.monotonic() < self.until:
                self.look()
                self.rounds += 1
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

    def look(self):
        buffer = io.BytesIO()
        self.picture.save(buffer, "PNG")
        status, _, content = ask(f"{self.address}/upload", buffer.getvalue(), X_Gradtoken_Name=f"{self.session}.png")
        assert status == 200, content
        parts = self.press("upload", json.loads(content)["key"])
        assert any(f"{self.session}.png" in part for part in parts), f"another picture: {parts[0][:300]}"
        for k in (0, 1):
            page = "".join(self.press("class", str(k)))
            found = [one["values"] for one in maps_in(page)] or 0
            assert np.allclose(found, self.expected[k].relevance, rtol=2e-3, atol=1e-6), "another map"

    def press(self, kind, value):
        """The parts of the page after a button was pressed."""
        data = {
            "data": [None, "bundled", [METHOD], *USUAL[1:]],
            "fn_index": self.numbers["press"],
            "session_hash": self.session,
        }
        data |= {"trigger_id": self.numbers["drop"], "event_data": {"kind": kind, "value": value}}
        body = json.dumps(data).encode()
        status, _, content = ask(f"{self.address}/gradio_api/queue/join", body, Content_Type="application/json")
        assert status == 200, content
        with urllib.request.urlopen(f"{self.address}/gradio_api/queue/data?session_hash={self.session}") as events:
            for line in events:
                said = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                if said.get("msg") == "process_completed":
                    assert said["success"], said
                    return [part for part in said["output"]["data"] if isinstance(part, str)]
        raise AssertionError("the answer was cut off")


def numbers_of(address):
    """Which event is that of a button, and which component it belongs to."""
    config = json.loads(ask(f"{address}/config")[2])
    drop = next(c["id"] for c in config["components"] if "gt-drop" in str(c["props"].get("value")))
    event = next(d["id"] for d in config["dependencies"] if [drop, "select"] in d["targets"])
    return {"drop": drop, "press": event}


def memory(server):
    """Resident memory in kB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())[1])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory is read from /proc")
def test_twenty_visitors_for_a_minute(tmp_path, capsys):
    server, address = start(tmp_path)
    try:
        numbers = numbers_of(address)
        visitors = [Visitor(address, numbers, i) for i in range(VISITORS)]
        end = time.monotonic() + SECONDS
        for visitor in visitors:
            visitor.until = end
            visitor.start()
        time.sleep(SECONDS / 2)
        half = memory(server)
        for visitor in visitors:
            visitor.join()
        full = memory(server)
    finally:
        server.terminate()
        server.wait(timeout=200)
        server.stdout.close()
    assert [v.failure for v in visitors if v.failure] == []
    assert min(v.rounds for v in visitors) >= 1
    with capsys.disabled():
        actions = 3 * sum(v.rounds for v in visitors)
        print(
            f"\n{VISITORS} visitors, {actions} answers in {SECONDS} s; memory {half} kB at half time, {full} at the end"
        )
    assert full - half < GROWTH
