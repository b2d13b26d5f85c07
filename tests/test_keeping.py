"""Queries and keys that are kept rounded, or computed once more: the same maps in less memory."""

from collections.abc import Mapping

import pytest
import torch
from benchmarks.meter import peak_bytes
from typer.testing import CliRunner

from gradtoken import METHODS, attribute, explain, load
from gradtoken.cli import app
from gradtoken.errors import NoAttention, UnknownName
from gradtoken.metrics.sanity import spearman
from gradtoken.models.bundled import FOLDER
from gradtoken.models.vit import VisionTransformer
from gradtoken.probe import LEARNT, Probe
from tests.zoo import bert, by_hand, timm_model, transformers_vit

PICTURE = FOLDER / "pictures" / "cat_and_giraffe.jpg"
FROM_THE_LAST_ON = {"rollout"}  # reads the blocks in the other order
SUMS = ("gradtoken", "centred_gradtoken", "score_gradient", "attention_shift", "gaze", "halo")


@pytest.fixture(scope="module")
def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(classes=5, size=32, patch=4, width=16, depth=4, heads=2, hidden=32).eval()


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("call", ["first", "later"])
@pytest.mark.parametrize("method", METHODS)
def test_computed_again_is_the_same_to_the_last_bit(vit, x, method, call):
    trial = METHODS[method].trial
    options = dict(trial) if isinstance(trial, Mapping) else {}
    expected = attribute(vit, x, [[1, 2]] * 2, method, allow_blank=True, **options)
    if call == "first":
        LEARNT.clear()
    if method in FROM_THE_LAST_ON:
        with pytest.raises(NoAttention, match=r"not kept \(memory='recompute'\)"):
            attribute(vit, x, [[1, 2]] * 2, method, memory="recompute", **options)
        return
    found = attribute(vit, x, [[1, 2]] * 2, method, memory="recompute", allow_blank=True, **options)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("propagation", ["rollout_matmul", "rollout_elementwise"])
def test_products_of_blocks_need_them_in_the_other_order(vit, x, propagation):
    with pytest.raises(NoAttention, match="use memory='keep', 'bfloat16' or 'float16'"):
        attribute(vit, x, 1, propagation=propagation, memory="recompute")


@pytest.mark.parametrize("memory", ["bfloat16", "float16"])
@pytest.mark.parametrize("method", SUMS)
def test_rounded_queries_and_keys_change_little(vit, x, method, memory):
    LEARNT.clear()  # so that no whole pass stands for the first
    expected = attribute(vit, x, 1, method)
    LEARNT.clear()
    found = attribute(vit, x, 1, method, memory=memory)
    error = (found - expected).abs().max() / expected.abs().max()
    assert 0 < error < torch.finfo(getattr(torch, memory)).eps


NETS = {
    "by hand": (lambda: by_hand(timm_model), (2, 3, 16, 16)),
    "transformers, eager": (lambda: transformers_vit("eager"), (2, 3, 16, 16)),
}


@pytest.mark.parametrize("name", NETS)
def test_attention_written_by_hand(name):
    build, shape = NETS[name]
    net, x = build(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = attribute(net, x, 1, heads="mean")
    LEARNT.clear()
    assert torch.equal(attribute(net, x, 1, heads="mean", memory="recompute"), expected)
    torch.testing.assert_close(attribute(net, x, 1, heads="mean", memory="bfloat16"), expected, rtol=0.02, atol=2e-4)


def test_texts_with_padding():
    net, ids = bert(), torch.randint(5, 30, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    expected = attribute(net, inputs, 1, heads="mean")
    LEARNT.clear()
    found = attribute(net, inputs, 1, heads="mean", memory="recompute")
    assert torch.equal(found, expected)
    assert not found[0, 6:].any()


def test_nothing_of_earlier_blocks_is_kept(vit, x):
    probe = Probe(vit, x, 1, "recompute")
    assert probe.last.is_kept
    assert [a.is_kept for a in probe.earlier] == [False] * 3
    assert [a.q.dtype for a in Probe(vit, x, 1, "bfloat16").attention] == [torch.bfloat16] * 3 + [torch.float32]


def test_queries_beyond_float16_are_refused(vit, x):
    big = VisionTransformer(classes=5, size=32, patch=4, width=16, depth=2, heads=2, hidden=32).eval()
    for block in big.blocks:
        block.attn.qkv.weight.data.mul_(1e7)
    with pytest.raises(NoAttention, match="beyond 65504"):
        attribute(big, x, 1, memory="float16", allow_blank=True)


def test_memory_by_another_name_is_refused(vit, x):
    with pytest.raises(UnknownName, match="memory"):
        attribute(vit, x, 1, memory="half")
    with pytest.raises(UnknownName, match="memory"):
        load("bundled", memory="less")


class Moody(VisionTransformer):
    """Mixes its tokens only while it is asked to."""

    mixes = True

    def forward(self, x):
        return super().forward(x) if self.mixes else x.flatten(1)[:, :5]


class InHalf(VisionTransformer):
    """Computes in bfloat16, whatever the caller does."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


def made(kind: type[VisionTransformer]) -> VisionTransformer:
    torch.manual_seed(0)
    return kind(classes=5, size=32, patch=4, width=16, depth=4, heads=2, hidden=32).eval()


def test_a_model_that_takes_fewer_attentions_the_second_time(x):
    net = made(Moody)
    probe = Probe(net, x, 1, "recompute")
    assert len(probe.earlier) == 3
    net.mixes = False
    with pytest.raises(NoAttention, match="took fewer than 3 attentions when it ran again"):
        METHODS["gradtoken"].bind({})(probe)


def test_a_model_with_a_number_format_of_its_own(x):
    net = made(InHalf)
    assert torch.equal(attribute(net, x, 1, memory="recompute"), attribute(net, x, 1))


def peaks(depth: int) -> dict[str, int]:
    """Counted bytes of a later call, on 1024 tokens."""
    torch.manual_seed(0)
    net = VisionTransformer(classes=5, size=128, patch=4, width=32, depth=depth, heads=2, hidden=32).eval()
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    attribute(net, x, 1, allow_blank=True)
    ways = ("keep", "bfloat16", "recompute")
    return {way: peak_bytes(lambda way=way: attribute(net, x, 1, allow_blank=True, memory=way)) for way in ways}


def test_memory_is_less():
    few, many = peaks(4), peaks(12)
    one = 2 * 1025 * 32 * 4  # bytes of q and k of a block
    growth = {way: (many[way] - few[way]) / 8 / one for way in few}
    assert growth["keep"] == pytest.approx(1, abs=0.02)
    assert growth["bfloat16"] == pytest.approx(0.5, abs=0.02)
    assert growth["recompute"] == pytest.approx(0, abs=0.02)


def test_bundled_model_and_a_picture():
    maps = {way: explain(PICTURE, load("bundled", memory=way), "cat").relevance for way in ("keep", "recompute")}
    rounded = explain(PICTURE, load("bundled", memory="bfloat16"), "cat").relevance
    assert (maps["keep"] == maps["recompute"]).all()
    kept, half = (torch.tensor(m).flatten()[None] for m in (maps["keep"], rounded))
    assert float(spearman(kept, half)) > 0.999


def test_the_whole_network_in_half_precision():
    maps = [explain(PICTURE, load("bundled", dtype=dtype), "cat").relevance for dtype in (None, "bfloat16")]
    full, half = (torch.tensor(m).flatten()[None] for m in maps)
    assert float(spearman(full, half)) > 0.99


def test_the_shell(tmp_path):
    run = CliRunner().invoke(app, ["explain", str(PICTURE), "--memory", "recompute", "-o", str(tmp_path / "a.npy")])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(app, ["explain", str(PICTURE), "--memory", "none", "-o", str(tmp_path / "b.npy")])
    assert run.exit_code == 1
    assert "memory" in run.output
