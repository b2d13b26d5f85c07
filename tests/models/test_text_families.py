"""Every family of sequence classifiers: tokens found, GradToken as written out naively, padding, explanations."""

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.models.model import Model
from gradtoken.models.text import Encode
from gradtoken.probe import Probe
from tests import texts
from tests.families import FAMILIES
from tests.reference import gradtoken as oracle

TEXTS = ("never dull , good", "the film is not good . it was un-likely", "bad")
TARGET = torch.tensor([1, 0, 1])
LAST = ("GPT-2", "Llama")  # read their last token
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


def encode() -> Encode:
    return Encode(texts.tokenizer(), texts.LENGTH, ("input_ids", "attention_mask"))


@pytest.fixture(scope="module")
def batch():
    return encode().padded([encode()(text).inputs for text in TEXTS])


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def net(family):
    return FAMILIES[family]()


def test_the_tokens_are_found(family, net, batch):
    probe = Probe(net, batch, TARGET)
    assert len(probe.attention) == 3
    assert torch.equal(probe.reachable, batch["attention_mask"].bool())
    counts = batch["attention_mask"].sum(dim=1)
    rows = [row.nonzero().flatten().tolist() for row in probe.readers]
    expected = {name: [[n - 1] for n in counts] for name in LAST}.get(family, [[0]] * 3)
    assert rows == ([[*range(n)] for n in counts] if family == "T5 encoder" else expected)
    assert probe.layout.first == (0 if family in (*LAST, "T5 encoder") else 1)


@pytest.mark.parametrize("heads", oracle.HEADS)
@pytest.mark.parametrize("propagation", oracle.PROPAGATIONS)
def test_gradtoken_is_what_it_is_written_out_naively(family, net, batch, propagation, heads):
    options = {"propagation": propagation, "heads": heads}
    R = gradtoken.attribute(net, batch, TARGET, **options, allow_blank=True)
    record = disentangled(net, batch) if family == "DeBERTa" else oracle.capture(net, batch, TARGET)
    expected = oracle.relevance(record, first=0, tokens=R.shape[1], **options)
    assert expected.any() or heads == "relu_mean"
    torch.testing.assert_close(R, expected, rtol=1e-9, atol=1e-12)


def disentangled(net, inputs) -> oracle.Record:
    """DeBERTa's attentions: content by content, what depends on places taken as a bias, keys divided by the scale."""
    named = {
        end: [m for name, m in net.named_modules() if name.endswith(f"self.{end}_proj")] for end in ("query", "key")
    }
    seen: dict[torch.nn.Module, torch.Tensor] = {}
    modules = [*named["query"], *named["key"]]
    hooks = [m.register_forward_hook(lambda m, _, out: seen.update({m: out.detach()})) for m in modules]
    out = net(**inputs, output_attentions=True)
    for A in out.attentions:
        A.retain_grad()
    out.logits[range(len(TARGET)), TARGET].sum().backward()
    for hook in hooks:
        hook.remove()
    blocked = inputs["attention_mask"][:, None, None].eq(0).expand(out.attentions[0].shape)
    found = []
    for query, key, A in zip(*named.values(), out.attentions, strict=True):
        q, k = (seen[m].unflatten(-1, (2, -1)).transpose(1, 2) for m in (query, key))
        k = k / torch.tensor(3.0 * k.shape[-1]).sqrt()  # of three parts of the scores; single precision, as there
        dA = torch.zeros_like(A) if A.grad is None else A.grad
        q.grad = (A * (dA - (A * dA).sum(dim=-1, keepdim=True))).detach() @ k
        found.append(oracle.Attention(q, k, q @ k.mT, A.detach(), blocked, 1.0))
    return oracle.Record(out.logits.detach(), found)


@pytest.mark.parametrize("method", ["gradtoken", "attn_lrp", "input_x_gradient"])
def test_a_batch_with_padding_is_its_texts_alone(net, batch, method):
    options = {"heads": "mean"} if method == "gradtoken" else {}
    together = gradtoken.attribute(net, batch, TARGET, method, **options)
    for i, text in enumerate(TEXTS):
        alone = gradtoken.attribute(net, encode().padded([encode()(text).inputs]), TARGET[i : i + 1], method, **options)
        torch.testing.assert_close(together[i : i + 1, : alone.shape[1]], alone, rtol=1e-7, atol=1e-10)
        assert not together[i, alone.shape[1] :].any()


def test_an_explanation(family, net):
    model = Model(net, family, encode(), None, "random")
    one = gradtoken.explain(TEXTS[1], model, 1, heads="mean", merge="sum")
    assert one.words.names == ("the", "film", "is", "not", "good", ".", "it", "was", "un-likely")
    inputs = encode().padded([encode()(TEXTS[1]).inputs])
    R = gradtoken.attribute(net, inputs, 1, heads="mean")[0]
    np.testing.assert_allclose(one.relevance[:8], R[1:9], rtol=1e-5)
    np.testing.assert_allclose(one.relevance.sum(), R[1:-1].sum(), rtol=1e-5)
    output = net(**inputs)
    assert one.logit == pytest.approx(getattr(output, "logits", output)[0, 1].item(), rel=1e-6)
