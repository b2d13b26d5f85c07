"""One model asked by several threads at once, from a forked child, interrupted in the middle, or with a memory."""

import linecache
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradtoken
from gradtoken.attribution import attribute
from gradtoken.errors import BadModel
from gradtoken.methods import METHODS
from gradtoken.models.vit import VisionTransformer
from tests.zoo import shaken

ONE_PASS = ("attention_shift", "centred_gradtoken", "gradtoken", "random", "raw_attention", "rollout", "score_gradient")
MIXED = ("gradtoken", "lrp", "legrad", "transattrib", "rollout", "attn_lrp")  # some in float64, some not


@pytest.fixture
def vit() -> nn.Module:
    return shaken(VisionTransformer(classes=5, size=16, patch=4, width=16, depth=3, heads=2, hidden=32))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_threads_that_ask_one_model_get_what_one_thread_gets(vit, x):
    expected = {name: attribute(vit, x, 1, name) for name in MIXED}
    with ThreadPoolExecutor(6) as pool:
        asked = [MIXED[i % len(MIXED)] for i in range(90)]
        for name, R in zip(asked, pool.map(lambda name: attribute(vit, x, 1, name), asked), strict=True):
            assert torch.equal(R, expected[name]), name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_child_forked_while_a_thread_explains_is_not_held_up(vit, x):
    expected, done = attribute(vit, x, 1, "legrad"), threading.Event()

    def busy() -> None:
        while not done.is_set():
            attribute(vit, x, 1, "lrp")

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert [status_of_a_child(vit, x, expected) for _ in range(8)] == [0] * 8
    finally:
        done.set()
        thread.join()


def status_of_a_child(net: nn.Module, x: Tensor, expected: Tensor) -> int:
    """0 where a forked process gives the same map within its time."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.alarm(60)
        os._exit(0 if torch.equal(attribute(net, x, 1, "legrad"), expected) else 1)
    return os.waitpid(child, 0)[1]


PACKAGE, CAREFUL = str(Path(gradtoken.__file__).parent), ("state.py", "lrp/passes.py")


def traced(call: Callable[[], object], line: Callable[[FrameType], None]) -> None:
    """Call with `line` before each line of this package."""

    def local(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            line(frame)
        return local

    sys.settrace(lambda frame, event, _: local if frame.f_code.co_filename.startswith(PACKAGE) else None)
    try:
        call()
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("method", ["lrp", "legrad", "occlusion"])
def test_an_interrupt_at_any_line_leaves_a_model_as_it_was(vit, x, method):
    """Ctrl-C may come anywhere: here before each line that puts something back, and before some of all others.

    Python itself has no guard at the very end of a `with`, whose line is counted where it begins.
    """
    expected = attribute(vit, x, 1, method)
    vit.train()
    lines: list[tuple[str, int]] = []
    traced(lambda: attribute(vit, x, 1, method), lambda at: lines.append((at.f_code.co_filename, at.f_lineno)))
    some = {number for number in range(0, len(lines), len(lines) // 15) if not is_with(lines[number])}
    last = {place: number for number, place in enumerate(lines) if place[0].endswith(CAREFUL)}
    for number in sorted(some | {number for place, number in last.items() if not is_with(place)}):
        interrupted(vit, x, method, number)
    assert torch.equal(attribute(vit, x, 1, method), expected)


def is_with(place: tuple[str, int]) -> bool:
    """Whether a line begins a `with`, and stands for its end too."""
    return linecache.getline(*place).lstrip().startswith("with ")


def interrupted(net: nn.Module, x: Tensor, method: str, number: int) -> None:
    """Explain until line `number`, and compare the model and the process with what they were."""
    weights, state, left = [(p, p.requires_grad) for p in net.parameters()], torch.random.get_rng_state(), [number]

    def line(frame: FrameType) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt(f"{frame.f_code.co_filename}:{frame.f_lineno}")

    with pytest.raises(KeyboardInterrupt, match="gradtoken") as stopped:
        traced(lambda: attribute(net, x, 1, method), line)
    assert all(module.training for module in net.modules()), stopped.value
    assert all(a is b and a.requires_grad == g for a, (b, g) in zip(net.parameters(), weights, strict=True)), stopped
    assert torch.equal(torch.random.get_rng_state(), state), stopped.value
    assert torch.is_grad_enabled(), stopped.value


class Remembering(nn.Module):
    """Adds what it said before."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.before = net, 0.0

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        self.before = self.before + y.detach()[:1]
        return y + self.before


class Noisy(Remembering):
    """Draws noise, which the random state decides."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.1 * torch.randn_like(x))


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_remembers_is_explained_from_one_pass_or_refused(vit, x, method):
    """In its first pass it adds what has no gradient."""
    if method in ONE_PASS:
        torch.testing.assert_close(attribute(Remembering(vit), x, 1, method), attribute(vit, x, 1, method))
        return
    with pytest.raises(BadModel, match="Remembering gave scores that differ by"):
        attribute(Remembering(vit), x, 1, method)


def test_noise_that_the_random_state_decides_is_the_same_each_time(vit, x):
    torch.manual_seed(3)
    assert torch.equal(attribute(Noisy(vit), x, 1), attribute(Noisy(vit), x, 1))
