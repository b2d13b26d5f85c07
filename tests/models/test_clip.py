"""Models of pictures and captions: the towers of transformers and open_clip, read through `load`."""

import json

import pytest
import torch
from torch import nn

import gradtoken
from gradtoken.batch import support
from gradtoken.decomposition.replay import decompose
from gradtoken.errors import BadModel, BadTarget, BadText, NoGrid, UnknownName
from gradtoken.methods.decompx import written
from gradtoken.models.captions import Captions
from gradtoken.models.clip import asked, with_captions, with_picture
from gradtoken.models.text import Encode
from gradtoken.pieces import Grouping
from gradtoken.probe import Probe
from tests import towers
from tests.reference import gradtoken as oracle

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
DOG, CAT, LONG = "a photo of a dog", "a cat", "the dog, and a cat!"
CAPTIONS = [DOG, CAT, LONG]
KINDS = ("clip", "siglip", "siglip, slow", "open_clip", "coca")
PREFIX = {"clip": 1, "open_clip": 1, "coca": 1}
FIELD = ("generic_attention", "legrad", "grad_eclip", "gradtoken", "rollout", "raw_attention", "gradcam")
PERTURBING = ("vit_cx", "tis", "occlusion", "reciprocam")
COCA = {
    "text_cfg": {
        **{"context_length": 15, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3},
        **{"embed_cls": True, "output_tokens": True},
    },
    "vision_cfg": {
        **{"image_size": 16, "layers": 3, "width": 16, "head_width": 8, "patch_size": 4},
        **{"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    },
    "multimodal_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    "custom_text": True,
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def case(kind, tmp_path_factory):
    """The model as `load` reads it, in float64, and the library's own network."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("m")
    if kind in ("open_clip", "coca"):
        net, name, weights = towers.open_clip_files(folder, **(COCA if kind == "coca" else {}))
        return gradtoken.load(name, weights=weights, dtype="float64"), net.double()
    parts = towers.clip() if kind == "clip" else towers.siglip(towers.slow(folder) if "slow" in kind else None)
    return gradtoken.load(towers.saved(parts, folder), dtype="float64"), parts[0].double()


@pytest.fixture(scope="module")
def model(case):
    return case[0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(0)
    return towers.saved(towers.clip(), tmp_path_factory.mktemp("clip"))


def logits(net, model, pixels, captions) -> torch.Tensor:
    """As the library itself computes them from its own tokens. (B, K)"""
    if hasattr(net, "encode_image"):
        tokens = model.captions.tokenizer(captions)
        x, t = net.encode_image(pixels, normalize=True), net.encode_text(tokens, normalize=True)
        return net.logit_scale.exp() * x @ t.T
    padding = {"padding": "max_length", "max_length": towers.LENGTH}  # as SigLIP was trained; for CLIP it is masked
    tokens = model.captions.tokenizer(captions, **padding, return_tensors="pt")
    return net(pixel_values=pixels, **tokens).logits_per_image


class Picture(nn.Module):
    """Cosines with captions written out, for the reference."""

    def __init__(self, net: nn.Module, t: torch.Tensor) -> None:
        super().__init__()
        self.net, self.t = net, nn.Parameter(t.detach())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if hasattr(self.net, "encode_image"):
            x = self.net.encode_image(pixels)
        else:
            x = self.net.get_image_features(pixels).pooler_output
        return self.net.logit_scale.exp() * (x / x.norm(dim=1, keepdim=True)) @ self.t.T


class Caption(Picture):
    """Cosines with pictures."""

    def forward(self, **tokens: torch.Tensor) -> torch.Tensor:
        if hasattr(self.net, "encode_text"):
            x = self.net.encode_text(**tokens)
        else:
            x = self.net.get_text_features(**tokens).pooler_output
        return self.net.logit_scale.exp() * (x / x.norm(dim=1, keepdim=True)) @ self.t.T


# What is seen -------------------------------------------------------------------------------------------------------


def test_logits_are_those_of_the_library(case):
    model, net = case
    pixels = towers.pixels().double()
    with torch.no_grad():
        torch.testing.assert_close(asked(model, CAPTIONS).net(pixels), logits(net, model, pixels, CAPTIONS))


def test_the_patches_are_found(kind, model):
    probe = Probe(asked(model, CAPTIONS).net, towers.pixels(1).double())
    assert (probe.layout.rows, probe.layout.columns, probe.layout.first) == (4, 4, PREFIX.get(kind, 0))
    assert probe.logits.shape == (1, 3)


def test_a_caption_is_the_same_among_longer_ones(model):
    pixels = towers.pixels().double()
    with torch.no_grad():
        alone = [asked(model, [caption]).net(pixels)[:, 0] for caption in CAPTIONS]
        torch.testing.assert_close(asked(model, CAPTIONS).net(pixels), torch.stack(alone, dim=1))


def test_captions_are_read_once_and_the_picture_once(clip):
    model = gradtoken.load(clip)
    seen = []
    for tower in (model.net.pictures, model.net.texts):
        tower.register_forward_hook(lambda tower, *_: seen.append(tower.call))
    counts = []
    for captions in ([DOG], CAPTIONS):
        gradtoken.explain(towers.picture(), model, target=captions, heads="mean")
        counts.append((seen.count("get_image_features"), seen.count("get_text_features")))
        seen.clear()
    assert counts[0] == counts[1]
    assert counts[0][1] == 1


# GradToken as it is written out naively -----------------------------------------------------------------------------


@pytest.mark.parametrize("propagation", ["average_matmul", "rollout_elementwise"])
@pytest.mark.parametrize("heads", oracle.HEADS)
def test_gradtoken_of_the_picture(kind, case, propagation, heads):
    model, net = case
    if kind == "coca":
        pytest.skip("the reference counts the last attention, which in CoCa writes captions and is not read")
    own, pixels = asked(model, CAPTIONS), towers.pixels().double()
    options = {"propagation": propagation, "heads": heads}
    R = gradtoken.attribute(own.net, pixels, [0, 2], **options, allow_blank=True)
    t = own.net.vectors / own.net.vectors.norm(dim=1, keepdim=True)
    naive = Picture(net, t)
    expected = oracle.gradtoken(naive, pixels, torch.tensor([0, 2]), first=PREFIX.get(kind, 0), tokens=16, **options)
    assert expected.any() or heads == "relu_mean"
    torch.testing.assert_close(R.flatten(1), expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("heads", oracle.HEADS)
def test_gradtoken_of_the_words(kind, case, heads):
    model, net = case
    if kind == "coca":
        pytest.skip("the reference counts the tokens of the caption, to which CoCa adds one")
    about = with_picture(model, towers.picture(), "")
    part = about.preprocess.windows(LONG).parts[0]
    inputs = {name: x[None] for name, x in part.inputs.items()}
    R = gradtoken.attribute(about.net, inputs, 0, heads=heads, allow_blank=True)
    v = about.net.vectors / about.net.vectors.norm(dim=1, keepdim=True)
    count = next(iter(inputs.values())).shape[1]
    expected = oracle.gradtoken(Caption(net, v), inputs, torch.tensor([0]), first=0, tokens=count, heads=heads)
    assert expected.any() or heads == "relu_mean"
    torch.testing.assert_close(R, expected, rtol=1e-8, atol=1e-11)
    read = 1 + max(i for i, span in enumerate(part.spans) if span) + ("siglip" not in kind)
    assert "siglip" in kind or not R[:, read:].any()  # SigLIP reads its padding, the others must not


# Methods ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*FIELD, *PERTURBING])
def test_a_batch_is_its_pictures_alone(model, method):
    net, pixels = asked(model, CAPTIONS).net, towers.pixels().double()
    together = gradtoken.attribute(net, pixels, [0, 1], method, allow_blank=True)
    alone = [gradtoken.attribute(net, x[None], i, method, allow_blank=True)[0] for i, x in enumerate(pixels)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-6, atol=1e-9)


def test_what_runs(kind, model):
    refused = {name for name, reason in support(model).items() if reason}
    assert refused <= {"abs_lrp", "alti", "globenc", "transattrib", "lrp", "partial_lrp", "decompx"}
    assert not refused & {*FIELD, *PERTURBING}
    assert refused == set() or kind not in ("clip", "open_clip")


@pytest.mark.parametrize(("method", "options"), [("gradtoken", {"heads": "mean"}), ("input_x_gradient", {})])
def test_a_contrast_is_a_difference_where_the_method_is_linear(model, method, options):
    target = [DOG, CAT, gradtoken.contrast(DOG, CAT)]
    dog, cat, both = gradtoken.explain(towers.picture(), model, target=target, method=method, **options)
    assert both.logit == pytest.approx(dog.logit - cat.logit)
    assert both.relevance == pytest.approx(dog.relevance - cat.relevance, rel=1e-4, abs=1e-6)
    assert (both.target, both.probability) == (None, None)
    assert both.name == "a photo of a dog rather than a cat"


def test_parts_of_a_cosine_sum_to_it(clip):
    """The length is that of the true vector."""
    probe = Probe(asked(gradtoken.load(clip, dtype="float64"), CAPTIONS).net, towers.pixels().double(), [[0], [2]])
    parts = torch.stack([decompose(*written(probe, i))[:, 0] for i in range(2)])  # (B, N, K)
    torch.testing.assert_close(parts.sum(dim=1), probe.scores)


# What is told -------------------------------------------------------------------------------------------------------


def test_probabilities_are_what_the_model_was_trained_to(kind, model):
    found = gradtoken.explain(towers.picture(), model, target=CAPTIONS, heads="mean")
    y = torch.tensor([one.logit for one in found], dtype=torch.float64)
    p = y.sigmoid() if "siglip" in kind else y.softmax(0)
    assert [one.probability for one in found] == pytest.approx(p.tolist())
    assert [one.name for one in found] == CAPTIONS
    assert ("sigmoid" if "siglip" in kind else "softmax over the 3 captions asked") in found[0].note
    (alone,) = gradtoken.explain(towers.picture(), model, target=[DOG], heads="mean")
    assert (alone.probability is None) == ("siglip" not in kind)
    assert alone.logit == pytest.approx(found[0].logit)
    assert alone.relevance == pytest.approx(found[0].relevance, rel=1e-5)


def test_captions_as_classes(clip):
    model = gradtoken.load(clip, labels=CAPTIONS)
    best = gradtoken.explain(towers.picture(), model, heads="mean")
    assert best.probability == max(p for _, p in best.predicted)
    assert [name for name, _ in best.predicted] != CAPTIONS or best.name == DOG
    assert gradtoken.explain(towers.picture(), model, target=CAT, heads="mean").name == CAT
    with pytest.raises(UnknownName, match=r"no class is named 'a dog'; did you mean 'a photo of a dog'|a cat"):
        gradtoken.explain(towers.picture(), model, target="a dog")
    with pytest.raises(BadModel, match="expected captions that differ as classes, got 3 with repetitions"):
        gradtoken.load(clip, labels=[DOG, CAT, DOG])


def test_a_probability_needs_two_captions(clip):
    model = gradtoken.load(clip)
    with pytest.raises(BadTarget, match="whose softmax is always 1; ask for two classes or captions"):
        gradtoken.explain(towers.picture(), model, DOG, "tis")


def test_a_comparison(clip):
    comparison = gradtoken.compare(towers.picture(), gradtoken.load(clip), [DOG, CAT], ["gradtoken", "legrad"])
    assert [row.name for row in comparison.rows] == [DOG, CAT]


# Words --------------------------------------------------------------------------------------------------------------


def test_the_words_of_captions(model):
    found = gradtoken.explain(towers.picture(), model, target=[DOG, LONG], words=True, heads="mean")
    assert found[0].words.names == ("a", "photo", "of", "a", "dog")
    left = [name for name in found[1].words.names if name.isalnum()]
    assert left == ["the", "dog", "and", "a", "cat"]
    assert all(one.relevance.any() and one.picture is None for one in found)
    on_pictures = gradtoken.explain(towers.picture(), model, target=[DOG, LONG], heads="mean")
    assert [one.logit for one in found] == pytest.approx([one.logit for one in on_pictures])
    with pytest.raises(BadTarget, match="words are explained caption by caption; expected captions as targets"):
        gradtoken.explain(towers.picture(), model, target=gradtoken.contrast(DOG, CAT), words=True)
    with pytest.raises(BadTarget, match="a caption is read whole; leave out windows"):
        gradtoken.explain(towers.picture(), model, target=DOG, words=True, windows=2)


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        (
            "\N{SLIGHTLY SMILING FACE} a Dog",
            ("\N{SLIGHTLY SMILING FACE}", "a", "Dog"),
        ),  # four bytes, some of them tokens
        ("Ein Äpfel, dog\nca\tt", ("Ein", "Äpfel", ",", "dog", "ca", "t")),
        ("don't stop 5.5", ("don't", "stop", "5.5")),
        ("日本 dog", ("日", "本", "dog")),
    ],
)
def test_places_that_no_tokenizer_tells(caption, names):
    read = Captions(pytest.importorskip("open_clip").tokenizer.SimpleTokenizer(), 77)
    tokens = read.windows(caption).tokens
    assert Grouping.of(caption, tokens, "max", special=False).words.names == names
    assert (tokens[0][0], tokens[-1]) == (None, (None, "<end_of_text>"))


def test_places_that_cannot_be_told():
    read = Captions(pytest.importorskip("open_clip").tokenizer.SimpleTokenizer(), 77)
    with pytest.raises(BadText, match=r"'b dog ', as the tokenizer reads it, is not found in the caption"):
        read.windows("a &amp; b dog")
    assert read.inputs(["a &amp; b dog"])["text"].shape == (1, 77)


def test_words_by_methods(model):
    methods = [name for name in FIELD if name != "gradcam"]
    found = gradtoken.explain(towers.picture(), model, [DOG, CAT], methods, words=True, allow_blank=True)
    assert [(one.method, one.words.text) for one in found] == [(m, text) for m in methods for text in (DOG, CAT)]


def test_a_pieced_word_is_one(clip):
    model = gradtoken.load(clip)
    one = gradtoken.explain(towers.picture(), model, target="unforgettablest dog", words=True, heads="mean")
    assert one.words.names == ("unforgettablest", "dog")
    assert len(one.words.pieces) > 2


# Likeness -----------------------------------------------------------------------------------------------------------


def test_likeness_to_a_picture(clip, tmp_path):
    other = towers.picture(1)
    other.save(tmp_path / "other.png")
    model = gradtoken.load(clip)
    one = gradtoken.explain(towers.picture(), model, gradtoken.similarity_to(str(tmp_path / "other.png")), heads="mean")
    assert one.name == "similarity to other.png"
    with torch.no_grad():
        a, b = (model.net.pictures(model.preprocess(x).pixels[None])[0] for x in (towers.picture(), other))
    assert one.logit == pytest.approx(float(a @ b / a.norm() / b.norm()), rel=1e-5)
    same = gradtoken.explain(other, model, gradtoken.similarity_to(other), method="raw_attention")
    assert same.logit == pytest.approx(1, abs=1e-6)


def test_likeness_by_features_of_a_folder(tmp_path):
    t = pytest.importorskip("transformers")
    config = t.Dinov2Config(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=16, patch_size=4)
    processor = t.BitImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, do_center_crop=True
    )
    folder = towers.saved((towers.shaken(t.Dinov2Model(config)), processor), tmp_path)
    model = gradtoken.load(folder, headless=True)
    one = gradtoken.explain(towers.picture(), model, gradtoken.similarity_to(towers.picture(1)), heads="mean")
    assert -1 <= one.logit <= 1
    assert one.relevance.shape == (4, 4)
    with pytest.raises(BadTarget, match="captions or callables as targets, got both"):
        asked(gradtoken.load(towers.saved(towers.clip(), tmp_path / "c")), [DOG, gradtoken.similarity_to("x.png")])


def test_independent_classes(tmp_path):
    t = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = t.ViTConfig(**size, image_size=16, patch_size=4, num_labels=3, problem_type="multi_label_classification")
    processor = t.ViTImageProcessorPil(size={"height": 16, "width": 16})
    net = towers.shaken(t.ViTForImageClassification(config))
    folder = towers.saved((net, processor), tmp_path)
    for model in (gradtoken.load(folder), gradtoken.load(t.ViTForImageClassification.from_pretrained(folder))):
        found = gradtoken.explain(towers.picture(), model, target=[0, 1, 2], heads="mean")
        expected = torch.tensor([one.logit for one in found]).sigmoid().tolist()
        assert [one.probability for one in found] == pytest.approx(expected)
        assert sum(one.probability for one in found) != pytest.approx(1)


def test_a_pipeline_is_explained_as_it_is(clip):
    t = pytest.importorskip("transformers")
    net, tokenizer = t.CLIPModel.from_pretrained(clip), t.AutoTokenizer.from_pretrained(clip)
    processor = t.AutoImageProcessor.from_pretrained(clip, backend="pil")
    pipe = t.pipeline("zero-shot-image-classification", model=net, tokenizer=tokenizer, image_processor=processor)
    found = gradtoken.explain(towers.picture(), pipe, target=CAPTIONS, heads="mean")
    told = {one["label"]: one["score"] for one in pipe(towers.picture(), CAPTIONS, hypothesis_template="{}")}
    assert {one.name: one.probability for one in found} == pytest.approx(told, abs=1e-5)


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (None, BadTarget, "expected a caption such as 'a photo of a dog' as target, got None"),
        (3, BadTarget, "expected a caption such as .* got 3"),
        ("  ", BadText, "a caption is empty; expected at least one word"),
        (gradtoken.contrast(DOG, DOG), BadTarget, "expected two classes to contrast"),
        (gradtoken.contrast(DOG, 1), BadTarget, "expected a caption such as .* got 1"),
        ("a photo of a dog and a cat " * 4, BadText, r"has more tokens than the 1[56] that the text tower reads"),
    ],
)
def test_bad_captions(model, target, error, message):
    with pytest.raises(error, match=message):
        gradtoken.explain(towers.picture(), model, target=target)


def test_a_caption_that_just_fits(model):
    """One token at a time, until it is refused: what is read is never cut."""
    read = []
    for count in range(1, towers.LENGTH + 2):
        try:
            read.append(asked(model, ["a " * count]).net(towers.pixels(1).double()).item())
        except BadText:
            break
    assert 12 <= len(read) <= towers.LENGTH
    assert len({round(y, 9) for y in read}) == len(read)


def test_a_caption_for_a_classifier():
    with pytest.raises(UnknownName, match=r"no class is named 'a photo of a dog'; .*dog"):
        gradtoken.explain(towers.picture(), target="a photo of a dog")
    with pytest.raises(BadTarget, match="bundled reads no captions; words=True is for models of pictures and captions"):
        gradtoken.explain(towers.picture(), target="dog", words=True)
    assert gradtoken.explain(towers.picture(), target=gradtoken.contrast("dog", "cat"), heads="mean").logit


def test_towers_without_captions(clip, tmp_path):
    with pytest.raises(BadTarget, match=r"has no classes of its own; give captions as targets, or as classes"):
        gradtoken.attribute(gradtoken.load(clip).net, towers.pixels())
    t = pytest.importorskip("transformers")
    towers.saved((t.CLIPVisionModel(t.CLIPVisionConfig(**towers.VISION)), towers.clip()[2]), tmp_path)
    with pytest.raises(BadModel, match="no image classification head"):
        gradtoken.explain(towers.picture(), str(tmp_path), target=DOG)


def test_a_folder_without_its_tokenizer(clip, tmp_path):
    parts = towers.clip()
    towers.saved((parts[0], parts[2]), tmp_path)
    with pytest.raises(BadModel, match="no tokenizer"):
        gradtoken.load(tmp_path)
    with pytest.raises(BadModel, match="came without its tokenizer; save it and its processor"):
        gradtoken.load(parts[0])
    t = pytest.importorskip("transformers")
    model = gradtoken.load(t.CLIPModel.from_pretrained(clip))
    assert gradtoken.explain(towers.picture(), model, target=DOG, heads="mean").name == DOG


def test_a_network_of_open_clip_that_is_passed_in(tmp_path):
    net, name, weights = towers.open_clip_files(tmp_path)
    found = [
        gradtoken.explain(towers.picture(), model, target=DOG, heads="mean")
        for model in (gradtoken.load(name, weights=weights), gradtoken.load(net))
    ]
    assert found[0].logit == pytest.approx(found[1].logit)
    (tmp_path / "b").mkdir()
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    other, _, _ = towers.open_clip_files(tmp_path / "b", text_cfg=text)
    with pytest.raises(BadModel, match="CLIP has a tokenizer of its own; give its name"):
        gradtoken.load(other)


def test_other_models_of_pictures_and_texts_are_refused(tmp_path):
    t = pytest.importorskip("transformers")
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(**towers.VISION), text_config=t.LlamaConfig(**towers.SIZE, vocab_size=40)
    )
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["LlavaModel"]}))
    with pytest.raises(BadModel, match=r"reads pictures together with texts|no image classification head"):
        gradtoken.load(tmp_path, headless=True)


def test_one_tower_for_both_is_refused_where_patches_have_no_place():
    """ViLT draws another order of the patches in each pass."""
    t = pytest.importorskip("transformers")
    options = {"vocab_size": 40, "image_size": 24, "patch_size": 4, "max_image_length": -1, "num_labels": 5}
    net = towers.shaken(t.ViltForQuestionAnswering(t.ViltConfig(**towers.SIZE, **options)))
    inputs = {"input_ids": torch.arange(1, 7)[None], "pixel_values": torch.randn(1, 3, 24, 24)}
    with pytest.raises(
        NoGrid, match="the tokens are not the patches row by row, but windows, channels or another order"
    ):
        gradtoken.attribute(net, inputs, 0)


def test_a_tower_alone_knows_no_captions(tmp_path):
    net, _, _ = towers.open_clip_files(tmp_path)
    with pytest.raises(UnknownName, match="captions need a model with a tower for them, as CLIP"):
        gradtoken.explain(towers.picture(), gradtoken.load(net.visual), target=DOG)


def test_what_was_encoded_before_holds_no_graph(clip):
    """Of captions, of a picture, and of one that another is compared with."""
    model = gradtoken.load(clip)
    assert with_captions(model, [DOG]).net.vectors.grad_fn is None
    assert with_picture(model, towers.picture(), "").net.vectors.grad_fn is None
    other = gradtoken.similarity_to(towers.picture())
    alike = other.of(asked(model, [other]))
    kept = [cell.cell_contents for cell in alike.__closure__]
    assert [x.requires_grad for x in kept if isinstance(x, torch.Tensor)] == [False]


def test_captions_are_an_encoding_of_texts(clip):
    model = gradtoken.load(clip)
    assert isinstance(model.captions, Encode)
    assert not model.reads_texts
    assert with_picture(model, towers.picture(), "").reads_texts
