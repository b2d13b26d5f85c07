"""ALTI and GlobEnc against formulas written out in float64, and what they and DecompX promise of their maps."""

import pytest
import torch
from torch import Tensor, nn

from gradtoken.decomposition.blocks import Block, block_of, rollout
from gradtoken.decomposition.norms import Norms
from gradtoken.decomposition.replay import decompose
from gradtoken.errors import NoBlocks, NoRule
from gradtoken.methods.alti import alti
from gradtoken.methods.decompx import decompx, written
from gradtoken.methods.globenc import globenc
from gradtoken.probe import Probe
from tests import zoo
from tests.reference.decomposition import REFERENCES

TARGETS = torch.tensor([[0, 3], [1, 4]])
NETS = {"ViT": zoo.timm_model, "BERT": zoo.bert, "BERT by hand": lambda: zoo.bert("eager")}


def inputs_of(name: str):
    return zoo.pictures(zoo.PICTURES["class token"]).double() if name == "ViT" else zoo.TEXT


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance * b.abs().max()


# Against formulas written out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_alti_and_globenc_equal_the_reference(name):
    net, inputs = NETS[name]().double(), inputs_of(name)
    probe = Probe(net, inputs, TARGETS)
    close(alti(probe), REFERENCES["alti"](net, inputs, TARGETS))
    close(alti(probe, p=2), REFERENCES["alti"](net, inputs, TARGETS, p=2))
    ours, expected = globenc(probe), REFERENCES["globenc"](net, inputs, TARGETS)
    close(ours / ours.sum(dim=2, keepdim=True), expected / expected.sum(dim=2, keepdim=True))


# What is promised -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["distilled", "registers, mean", "attention pooling", "torchvision"])
def test_decompx_shares_sum_to_the_score(name):
    net, x = zoo.PICTURES[name].build().double(), zoo.pictures(zoo.PICTURES[name]).double()
    for target in (TARGETS, lambda logits: logits[:, 0] - 2 * logits[:, 3]):
        probe = Probe(net, x, target)
        total = torch.stack([decompose(*written(probe, i))[:, 0].sum(dim=0) for i in range(2)])
        close(total, probe.scores, 1e-12)


@pytest.mark.parametrize("name", NETS)
def test_vectors_of_a_row_sum_to_the_sublayer_but_for_a_bias(name):
    probe = Probe(NETS[name]().double(), inputs_of(name), TARGETS)
    left = []

    def contribution(block: Block, start: int, stop: int) -> Tensor:
        T = block.vectors(start, stop)
        rest = block.y[:, start:stop] - T.sum(dim=2)
        if block.norm is not None:  # of the bias before the norm, and the norm's own
            beta = net_bias(probe.net, 3 - len(left))
            rest = (rest - beta) * block.norm.sigma[:, start:stop]
        left.append((rest - rest[:1, :1]).abs().max())
        return torch.ones(T.shape[:3], dtype=T.dtype)

    R = rollout(probe, contribution)
    assert len(left) == 4
    assert max(left) < 1e-12
    assert (R > 0).sum() == 32 if name == "ViT" else 8


def net_bias(net: nn.Module, block: int) -> Tensor:
    return net.bert.encoder.layer[block].attention.output.LayerNorm.bias.detach()


def test_shares_are_shares():
    probe = Probe(zoo.PICTURES["no prefix, mean"].build().double(), inputs_of("ViT"), TARGETS)
    for method in (alti, globenc):
        assert (method(probe) >= 0).all()
        torch.testing.assert_close(method(probe).sum(dim=2), torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("method", [alti, globenc, decompx])
def test_samples_targets_and_padding(method):
    net, x = zoo.timm_model().double(), zoo.pictures(zoo.PICTURES["class token"], 3).double()
    targets = torch.tensor([[0, 3], [1, 4], [2, 0]])
    together = method(Probe(net, x, targets))
    for i in range(3):
        close(together[i : i + 1], method(Probe(net, x[i : i + 1], targets[i : i + 1])))
    assert torch.equal(together[:, 0], together[:, 1]) == (method is not decompx)
    bert = zoo.bert().double()
    padded = method(Probe(bert, zoo.TEXT, TARGETS))
    assert (padded[1, :, 3:] == 0).all()
    assert not padded.requires_grad
    alone = {name: x[1:, :4] for name, x in zoo.TEXT.items()}
    close(padded[1:, :, :3], method(Probe(bert, alone, TARGETS[1:])))


@pytest.mark.parametrize("method", [alti, globenc])
def test_some_rows_at_a_time_give_the_same(method, monkeypatch):
    probe = Probe(zoo.PICTURES["no prefix, mean"].build().double(), inputs_of("ViT"), 0)
    expected = method(probe)
    monkeypatch.setattr("gradtoken.decomposition.blocks.BUDGET", 3 * 2 * 16 * 16 * 8)  # three rows
    close(method(probe), expected, 1e-12)


@pytest.mark.parametrize("method", [alti, globenc, decompx])
def test_half_precision_is_near(method):
    net, x = zoo.timm_model(), inputs_of("ViT").float()
    expected = method(Probe(net, x, TARGETS))
    half = method(Probe(net.bfloat16(), x.bfloat16(), TARGETS))
    assert half.dtype == torch.float32
    assert (half - expected).abs().max() < 0.2 * expected.abs().max()


# Other models ---------------------------------------------------------------------------------------------------------


class PostNorm(nn.Module):
    """PyTorch's own encoder with norms after its sums, on tokens in another order: (N, B, C) inside."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32)
        self.embed, self.head = nn.Linear(8, 16), nn.Linear(16, zoo.CLASSES)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(tokens).transpose(0, 1)).mean(dim=0))


def test_norms_after_the_sums_are_found_in_another_layout():
    net, x = zoo.shaken(PostNorm()).double(), torch.randn(2, 6, 8).double()
    probe, norms = Probe(net, x, TARGETS), Norms()
    run = probe.run(rules=norms)
    block = block_of(run, norms, 2, tokens=6)
    whole = block.norm(run.value("middle", 2)[:, :, None], 0)[:, :, 0]  # the sum as its own only part
    torch.testing.assert_close(whole + net.encoder.layers[2].norm1.bias.detach(), block.y)
    for method in (alti, globenc):
        torch.testing.assert_close(method(probe).sum(dim=2), torch.ones(2, 2).double())
    torch.testing.assert_close(decompx(probe).sum(dim=2), probe.scores)


@pytest.mark.parametrize("method", [alti, globenc])
def test_a_branch_that_is_no_linear_map_of_the_heads_is_refused(method):
    net = zoo.timm_model("eva.Eva", scale_attn_inner=True, qkv_fused=False)
    with pytest.raises(NoBlocks, match="block 3 adds to the residual stream is no linear map of its heads"):
        method(Probe(net, inputs_of("ViT").float(), 0))
    with pytest.raises(NoBlocks, match="expected the same 1 tokens in every block"):
        method(Probe(zoo.timm_model("cait.Cait"), inputs_of("ViT").float(), 0))
    with pytest.raises(NoBlocks, match="residual connection past 4 of them"):
        method(Probe(zoo.PICTURES["attention pooling"].build(), inputs_of("ViT").float(), 0))


def test_gated_networks_have_no_parts():
    with pytest.raises(NoRule, match=r"torch.Tensor.mul takes tensors .* all made of tokens"):
        decompx(Probe(zoo.llama(), zoo.TEXT, 0))
    with pytest.raises(NoRule, match="explain a logit before any softmax"):
        decompx(Probe(zoo.timm_model(), inputs_of("ViT").float(), lambda logits: logits.softmax(dim=1)[:, 0]))
