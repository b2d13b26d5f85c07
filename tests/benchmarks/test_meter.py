"""The counters count what they say."""

import torch
import torch.nn.functional as F
from benchmarks.meter import flops, peak_bytes


def test_flops_of_fused_attention_on_a_cpu():
    q, k, v = (torch.randn(2, 3, 8, 4, requires_grad=True) for _ in "qkv")
    product = 2 * 2 * 3 * 8 * 8 * 4  # multiply and add, B, H, N, N, D
    assert flops(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * product
    assert flops(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()) == (2 + 5) * product


def test_peak_counts_storages_once_and_forgets_the_dead():
    x = torch.zeros(1000)

    def run() -> None:
        y = x + 1  # 4000 bytes
        z = y.view(10, 100)[2:]  # a view: nothing
        del y, z
        a = x * 2
        a.add_(1)  # in place: nothing
        b = a + x  # 8000 bytes alive
        del a, b

    assert peak_bytes(run) == 8000
    assert peak_bytes(lambda: x.view(10, 100)) == 0


def test_hollow_attention_takes_the_same_bytes():
    q, k, v = (torch.randn(2, 8, 3, 4, requires_grad=True) for _ in "qkv")

    def run() -> None:
        z = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        torch.autograd.grad(z.transpose(1, 2).reshape(2, 8, 12).square().sum(), q)

    assert peak_bytes(run, hollow=True) == peak_bytes(run) > 0
