"""Classes in groups: the logits, the gradients, every method on a wrapped network, and the table of VOC."""

import copy
from pathlib import Path

import pytest
import torch

import gradtoken
from gradtoken.errors import BadModel, GradTokenError, UnknownName
from gradtoken.methods import METHODS
from gradtoken.models.grouped import VOC_GROUPS, VOC_IMAGENET, Grouped, grouped
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.probe import Probe
from tests import zoo
from tests.methods.test_every_method import CHEAP

DATA = Path(__file__).parents[3] / "shared" / "data"
GROUPS = {0: (1, 3), 1: (2,), 2: (0, 3, 4)}
NAMES = ["pair", "one", "overlap"]


@pytest.fixture(scope="module", params=["class token", "transformers"])
def net(request):
    return zoo.PICTURES[request.param].build().double()


@pytest.fixture(scope="module")
def x():
    return zoo.pictures(zoo.PICTURES["class token"], 3).double()


def plain_logits(net, x):
    out = net(x)
    return getattr(out, "logits", out)


@pytest.mark.parametrize("pool", ["max", "logsumexp"])
def test_logits_and_gradients_are_those_of_the_formula(net, x, pool):
    x = x.clone().requires_grad_()
    ours, logits = Grouped(net, GROUPS, pool)(x), plain_logits(net, x)
    reduce = (lambda z: z.amax(dim=1)) if pool == "max" else (lambda z: z.exp().sum(dim=1).log())
    expected = torch.stack([reduce(logits[:, list(group)]) for group in GROUPS.values()], dim=1)
    torch.testing.assert_close(ours, expected)
    for g in range(3):
        got, want = (torch.autograd.grad(y[:, g].sum(), x, retain_graph=True)[0] for y in (ours, expected))
        torch.testing.assert_close(got, want)


def test_of_equal_logits_one_has_the_gradient():
    class Same(torch.nn.Module):
        def forward(self, x):
            return x

    x = torch.ones(2, 5, requires_grad=True)
    Grouped(Same(), GROUPS)(x).sum().backward()
    assert x.grad.tolist() == [[1, 1, 1, 0, 0]] * 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pool", ["max", "logsumexp"])
def test_every_method_runs_on_groups(method, pool):
    net, x = zoo.timm_model().double(), zoo.pictures(zoo.PICTURES["class token"], 2).double()
    options = CHEAP.get(method, {})
    try:
        gradtoken.attribute(net, x, 0, method, allow_blank=True, **options)
    except GradTokenError as error:
        pytest.skip(f"refused on the network itself: {error}")
    wrapped = Grouped(net, GROUPS, pool)
    maps = gradtoken.attribute(wrapped, x, torch.tensor([[0, 2], [1, 0]]), method, allow_blank=True, **options)
    assert maps.shape[2:] in {(4, 4), (16, 16)}
    assert maps.isfinite().all()


@pytest.mark.parametrize("method", ["gradtoken", "attn_lrp", "lrp", "transattrib", "decompx", "gradcam"])
def test_the_map_of_a_group_is_that_of_its_strongest_class(method, x):
    net = zoo.timm_model().double()
    winners = [[max(group, key=row.__getitem__) for group in GROUPS.values()] for row in plain_logits(net, x).tolist()]
    ours = gradtoken.attribute(Grouped(net, GROUPS), x, [[0, 1, 2]] * 3, method, allow_blank=True)
    expected = gradtoken.attribute(net, x, winners, method, allow_blank=True)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("method", ["attn_lrp", "lrp", "gradtoken"])
def test_a_group_of_one_is_the_class_itself_under_log_sum_exp(method, x):
    net = zoo.timm_model().double()
    ours = gradtoken.attribute(Grouped(net, [[2], [3]], "logsumexp"), x, [[0, 1]] * 3, method)
    torch.testing.assert_close(ours, gradtoken.attribute(net, x, [[2, 3]] * 3, method), rtol=1e-6, atol=1e-9)


def test_blocks_and_grid_are_recognised(net, x):
    own, wrapped = Probe(net, x, 0), Probe(Grouped(net, GROUPS), x, 0)
    assert wrapped.blocks == own.blocks
    assert wrapped.layout == own.layout
    assert wrapped.stream == own.stream


def test_the_wrapped_model_is_explained_by_name(tmp_path):
    bundled = gradtoken.load("bundled")
    pets = {0: [bundled.labels.find("cat"), bundled.labels.find("dog")], 1: [bundled.labels.find("airplane")]}
    model = grouped(bundled, ["pet", "machine"], pets)
    picture = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)).numpy()
    out = gradtoken.explain(picture, model, "pet")
    assert out.relevance.shape == (14, 14)
    assert model.labels.find("machine") == 1
    assert gradtoken.load(model.net, preprocess=model.preprocess, labels=["pet", "machine"]).labels is not None


def test_the_buffers_are_no_weights_and_follow_the_network(net):
    wrapped = Grouped(copy.deepcopy(net), GROUPS)
    assert all(name.startswith("net.") for name in wrapped.state_dict())
    assert wrapped.to("meta").members.device.type == "meta"


@pytest.mark.parametrize(
    ("names", "groups", "message"),
    [
        (NAMES, [[1], [], [2]], "one: no class of the model belongs to it; leave the name out"),
        (NAMES, [[1], [2], [5]], "overlap: expected classes from 0 to 4 of the model, got 5"),
        (NAMES, [[1], [-1], [2]], "one: expected class indices from 0, got -1"),
        (NAMES, [[1], [2, 2], [3]], r"one: expected each class once, got \(2, 2\)"),
        (NAMES, {0: [1], 2: [3]}, r"a group of classes for each of 3 names, none for \['one'\]"),
        (NAMES, {}, r"none for \['pair', 'one', 'overlap'\]"),
        (NAMES, {0: [1], 2: [3], 3: [1]}, r"expected groups for 0 to 2, got the numbers \[0, 2, 3\]"),
    ],
)
def test_groups_that_do_not_fit_are_refused(names, groups, message):
    model = Model(zoo.timm_model(), "tiny", Preprocess((16, 16)), None, "a test")
    with pytest.raises(BadModel, match=message):
        grouped(model, names, groups)


def test_what_only_the_output_tells_is_refused_then():
    with pytest.raises(BadModel, match="expected classes from 0 to 4 of the model, got 9; the groups are of another"):
        Grouped(zoo.Encoder(), [[9]])(torch.rand(1, 3, 16))
    with pytest.raises(UnknownName, match="no pool of a group 'maxi'; did you mean 'max'"):
        Grouped(zoo.Encoder(), [[0]], "maxi")


def test_text_models_take_groups():
    net = zoo.bert()
    maps = gradtoken.attribute(Grouped(net, GROUPS), zoo.TEXT, [[0], [1]], "legrad", allow_blank=True)
    assert maps.shape == (2, 1, 6)


# The table of VOC -----------------------------------------------------------------------------------------------------


def agree(labels: Labels) -> None:
    for parts in VOC_IMAGENET.values():
        for text, part in parts.items():
            ends = (part, part) if isinstance(part, int) else (part[0], part[-1])
            assert [labels[c].split(",")[0] for c in dict.fromkeys(ends)] == text.split(" ... "), text


def test_every_index_has_its_name_in_timm():
    timm = pytest.importorskip("timm")
    info = timm.data.ImageNetInfo("imagenet-1k")
    agree(Labels.of([info.label_descriptions()[c] for c in range(1000)]))


@pytest.mark.skipif(not DATA.is_dir(), reason="the list of ImageNet names is not here")
def test_every_index_has_its_name_in_the_list_of_synsets():
    agree(Labels.of(DATA / "deit_tiny" / "synset_words.txt"))


def test_the_table_is_in_the_order_of_voc_and_shares_no_class():
    order = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    assert " ".join(VOC_IMAGENET) == order + "pottedplant sheep sofa train tvmonitor"
    listed = [c for group in VOC_GROUPS.values() for c in group]
    assert list(VOC_GROUPS) == list(range(20))
    assert len(set(listed)) == len(listed)
    assert len(VOC_GROUPS[2]) == 59
    assert len(VOC_GROUPS[11]) == 118
