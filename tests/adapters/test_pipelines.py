"""Pipelines of transformers and models of timm, explained as they are."""

import numpy as np
import pytest
import torch
from PIL import Image

import gradtoken
from gradtoken.errors import BadModel
from tests import generators, texts, tokenizers, zoo

t = pytest.importorskip("transformers", reason="transformers is not installed")
NAMES = dict(enumerate(("cat", "dog", "horse", "boat", "bird")))


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8))


def pictures_pipeline(processor: str = "ViTImageProcessorPil"):
    net = zoo.transformers_vit()
    net.config.id2label = NAMES
    return t.pipeline("image-classification", model=net, image_processor=getattr(t, processor)(size=(16, 16)))


@pytest.mark.parametrize(("processor", "close"), [("ViTImageProcessorPil", 1e-5), ("ViTImageProcessor", 0.02)])
def test_a_pipeline_of_pictures_says_the_same(picture, processor, close):
    pipe = pictures_pipeline(processor)
    one = gradtoken.explain(picture, pipe, heads="mean")
    scores = {item["label"]: item["score"] for item in pipe(picture)}
    assert one.name == max(scores, key=scores.get)
    assert one.probability == pytest.approx(scores[one.name], abs=close)  # torchvision rounds resized pixels elsewhere
    other = gradtoken.explain(picture, pipe, "boat", heads="mean")
    assert other.probability == pytest.approx(scores["boat"], abs=close)
    assert other.relevance.shape == (4, 4)
    assert gradtoken.load(pipe).net is pipe.model


def test_a_pipeline_of_texts_says_the_same():
    net = texts.bert()
    net.config.id2label, net.config.label2id = {0: "NEG", 1: "POS"}, {"NEG": 0, "POS": 1}
    pipe = t.pipeline("text-classification", model=net, tokenizer=texts.tokenizer())
    one = gradtoken.explain("the film is not good", pipe, "POS", heads="mean")
    (found,) = pipe("the film is not good", top_k=None)[:1]
    expected = found["score"] if found["label"] == "POS" else 1 - found["score"]
    assert one.probability == pytest.approx(expected, abs=1e-5)
    assert one.words.names == ("the", "film", "is", "not", "good")


def test_a_pipeline_of_prompts_says_the_same():
    tokenizer = tokenizers.KINDS[generators.BYTES](generators.LENGTH)
    pipe = t.pipeline("text-generation", model=generators.network("GPT2"), tokenizer=tokenizer)
    one = gradtoken.explain("The film was never", pipe, heads="mean")
    options = {"max_new_tokens": 1, "do_sample": False, "return_full_text": False}
    assert pipe("The film was never", **options)[0]["generated_text"] == one.name
    assert gradtoken.load(pipe).net.net is pipe.model


def test_a_pipeline_around_a_timm_model(picture):
    pytest.importorskip("timm")
    from transformers.models.timm_wrapper import TimmWrapperImageProcessor

    options = {"img_size": 32, "depth": 2, "embed_dim": 16, "num_heads": 2}
    config = t.TimmWrapperConfig(architecture="vit_tiny_patch16_224", num_labels=5, model_args=options)
    own = {
        "input_size": (3, 32, 32),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "crop_pct": 0.9,
        "interpolation": "bicubic",
    }
    processor = TimmWrapperImageProcessor(pretrained_cfg=own | {"architecture": config.architecture, "num_classes": 5})
    net = zoo.shaken(t.TimmWrapperForImageClassification(config))
    pipe = t.pipeline("image-classification", model=net, image_processor=processor)
    one = gradtoken.explain(picture, pipe, method="legrad", allow_blank=True)
    assert one.probability == pytest.approx(pipe(picture)[0]["score"], abs=1e-5)
    assert one.relevance.shape == (2, 2)


def test_a_timm_model_is_explained_as_it_is(picture):
    timm = pytest.importorskip("timm")
    net = zoo.shaken(timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, depth=2))
    one = gradtoken.explain(picture, net, 2, heads="mean")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({"img_size": 32}, model=net))
    with torch.no_grad():
        expected = net(transform(picture)[None]).softmax(dim=1)[0, 2].item()
    assert one.probability == pytest.approx(expected, abs=1e-5)
    assert one.relevance.shape == (2, 2)


def test_refusals(picture):
    other = t.pipeline("feature-extraction", model=texts.bert().bert, tokenizer=texts.tokenizer())
    with pytest.raises(BadModel, match="a pipeline for feature-extraction; expected one for image-classification or"):
        gradtoken.explain(picture, other)
    with pytest.raises(BadModel, match=r"expected a model's name, a folder, a module or a pipeline .* got 7"):
        gradtoken.load(7)
    with pytest.raises(BadModel, match="weights= goes with a name"):
        gradtoken.load(pictures_pipeline(), weights="a.safetensors")


def test_the_pipeline_still_works_afterwards(picture):
    pipe = pictures_pipeline()
    before = pipe(picture)
    with torch.no_grad():
        gradtoken.explain(picture, pipe, ["cat", "dog"], ["legrad", "rollout"], allow_blank=True)
    assert pipe(picture) == before
