"""Nothing but memory of libraries is left of many explanations, and what is left would be seen."""

import mmap
import os

import torch
from benchmarks.soak import Mark, growth

from benchmarks import soak


def held(one: Mark) -> tuple[int, int, int]:
    return one.threads, one.files, one.tensors


def test_threads_files_and_tensors_stay():
    marks = [one for one, _ in soak.soak(60, seed=1)]
    assert [one.count for one in marks] == list(range(3, 61, 3))
    assert {held(one) for one in marks[10:]} == {held(marks[-1])}


def test_what_is_kept_is_seen(monkeypatch):
    """A tensor over a MiB that nothing had before, and a file, kept of each call."""
    kept: list[object] = []

    def leaking(_: object) -> bool:
        tensor = torch.frombuffer(mmap.mmap(-1, 2**20), dtype=torch.float32).fill_(1)
        kept.extend((tensor, os.open(os.devnull, os.O_RDONLY)))
        return True

    monkeypatch.setattr(soak, "explained", leaking)
    try:
        marks = [one for one, _ in soak.soak(100)]
    finally:
        for one in kept[1::2]:
            os.close(one)
    assert marks[-1].tensors - marks[0].tensors == marks[-1].files - marks[0].files == 95
    assert 900 < growth(marks) < 1200


def test_growth_is_of_what_comes_after_the_first_tenth():
    marks = [Mark(n * 100, 500 + n * 2 + (0 if n > 2 else 1000), 1, 6, 0) for n in range(1, 21)]
    assert growth(marks) == growth(marks[2:])
    assert abs(growth(marks) - 20) < 1e-9
