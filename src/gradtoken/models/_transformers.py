"""transformers: classifiers of images, texts and sounds and language models, from a folder or already built."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gradtoken.errors import BadModel
from gradtoken.models._heads import is_independent, library, media, note_of, subject_of
from gradtoken.models.answers import Answering, Joint, is_joint
from gradtoken.models.captions import Captions
from gradtoken.models.clip import Towers, is_two_towers
from gradtoken.models.elsewhere import advise
from gradtoken.models.film import Watch
from gradtoken.models.hub import ANSWERS, CONTINUES, JOINT, NAME, VOCABULARY, cached_folder
from gradtoken.models.joint import TOKENS, Beside, divided
from gradtoken.models.labels import Labels, in_order
from gradtoken.models.language import Vocabulary
from gradtoken.models.model import HEADLESS, How, Model, need
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.prompt import Prompts, questions_of
from gradtoken.models.recipes import from_transformers
from gradtoken.models.sound import Listen
from gradtoken.models.text import Encode, encode_of, length_of
from gradtoken.models.weights import FAULTS, brief

AUTO = {
    "image": "AutoModelForImageClassification",
    "text": "AutoModelForSequenceClassification",
    "audio": "AutoModelForAudioClassification",
    "prompt": "AutoModelForCausalLM",
    "video": "AutoModelForVideoClassification",
    "question": "AutoModelForImageTextToText",
}


def load_transformers(folder: Path, name: str, preprocess: How | None, headless: bool) -> Model:
    """A folder that `save_pretrained` wrote, or a hub model's. No code from the folder is run."""
    transformers = library()
    config = read(transformers.AutoConfig, folder, name)
    reads = subject_of(config)
    if not (reads or headless):
        advise(name, config.architectures or [])
    if not reads and is_two_towers(transformers.MODEL_MAPPING.get(type(config), None)):
        return towers_in(folder, name, config, preprocess)
    heads = ", ".join(config.architectures or []) or "not named"
    if not (reads or headless):
        raise BadModel(
            f"{name} has no image classification head (its architecture is {heads}), nor one for texts, sounds or "
            "films, so "
            "its classes would be random; choose a fine-tuned model, or pass headless=True with a callable target"
        )
    if hasattr(config, "text_config") and not reads:
        raise BadModel(
            f"{name} reads pictures together with texts ({heads}); expected an image model alone, or one with a tower "
            "for each, as CLIP"
        )
    auto = "AutoModelForVisualQuestionAnswering" if config.model_type == "vilt" else AUTO.get(reads, "AutoModel")
    net = whole(getattr(transformers, auto), folder, name, config)
    if reads == "question":
        source = f"transformers {type(net).__name__} from {name}"
        return of_questions(net, name, source, tokenizer_in(folder, name), preprocess or preprocess_in(folder, name))
    ways: dict[str, Callable[[Path, str, Any], How]] = {"text": encode_in, "audio": listen_in, "prompt": prompts_in}
    ways["video"] = watch_in
    how = fitting(net, preprocess or ways.get(reads, preprocess_in)(folder, name, net))
    return Model(
        net=wrapped(net, how),
        name=name,
        preprocess=how,
        labels=names_of(config, how) if reads else None,
        source=f"transformers {type(net).__name__} from {name}",
        note=note_of(config) if reads else f"{name} {HEADLESS}",
        independent=is_independent(config),
    )


def whole(kind: Any, folder: Path, name: str, config: Any) -> Any:
    """The network with all its weights."""
    net, report = read(kind, folder, name, config=config, dtype=torch.float32, output_loading_info=True)
    if report["missing_keys"] or report.get("mismatched_keys"):
        keys = sorted(map(str, [*report["missing_keys"], *report.get("mismatched_keys", ())]))
        raise BadModel(f"{name}: {len(keys)} weights are missing or of another shape, so random: {', '.join(keys[:4])}")
    return net


def towers_in(folder: Path, name: str, config: Any, preprocess: Any) -> Model:
    """A model of pictures and captions with its processor."""
    net = whole(library().AutoModel, folder, name, config)
    source = f"transformers {type(net).__name__} from {name}"
    return of_towers(net, name, source, tokenizer_in(folder, name), preprocess or preprocess_in(folder, name))


def of_towers(net: Any, name: str, source: str, tokenizer: Any, preprocess: Any) -> Model:
    """A network with its processors. SigLIP reads padding, which it was trained with."""
    config = net.config.text_config
    limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    captions = Captions(tokenizer, min(filter(None, limits)), fixed=config.model_type.startswith("siglip"))
    return Model(Towers(net), name, preprocess, None, source, captions=captions)


def of_questions(net: Any, name: str, source: str, tokenizer: Any, preprocess: Any) -> Model:
    """A model that reads a picture with a text, with its processors."""
    if is_joint(net):
        beside = Beside(tokenizer, length_of(net, tokenizer, name), TOKENS)
        return Model(Joint(net), name, preprocess, labels_of(net.config), source, independent=True, prompts=beside)
    prompts = questions_of(Prompts.by(tokenizer, length_of(net, tokenizer, name)), net.config)
    labels = Vocabulary(tokenizer, net.config.get_text_config().vocab_size)
    return Model(Answering(net), name, preprocess, labels, source, prompts=prompts)


def of_module(net: Any, preprocess: Any) -> Model:
    """A network of pictures and texts already built, with the processor in the folder it came from."""
    kind, origin = type(net).__name__, net.config.name_or_path or ""
    folder = cached_folder(origin) if NAME.fullmatch(origin) and not Path(origin).is_dir() else Path(origin)
    if not origin or folder is None or not folder.is_dir():
        raise BadModel(
            f"{kind} came without its tokenizer; save it and its processor in one folder "
            "(save_pretrained), and give that"
        )
    how, source = preprocess or preprocess_in(folder, kind), f"the {kind} that was passed in"
    of = of_questions if kind in (*ANSWERS, *JOINT) else of_towers
    return of(net, kind, source, tokenizer_in(folder, kind), how)


def read(kind: Any, folder: Path, name: str, **options: Any) -> Any:
    """`kind.from_pretrained(folder)`, offline, with what goes wrong put plainly."""
    try:
        with quiet():
            return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except FAULTS as error:
        raise BadModel(f"{name}: transformers cannot load it as {kind.__name__}: {brief(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports on the screen; what matters is in our own messages."""
    logging = library().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def preprocess_in(folder: Path, name: str, _net: Any = None) -> Preprocess:
    """As the image processor's configuration in the folder says."""
    if not any((folder / file).exists() for file in ("preprocessor_config.json", "processor_config.json")):
        raise BadModel(
            f"{name}: no preprocessor_config.json in {str(folder)!r}; save the image processor beside the model"
        )
    processor = read(library().AutoImageProcessor, folder, name, backend="pil")
    return (divided if "size_divisor" in processor.to_dict() else from_transformers)(processor.to_dict())


def encode_in(folder: Path, name: str, net: Any) -> Encode:
    """As the tokenizer in the folder says."""
    return encode_of(net, tokenizer_in(folder, name), name)


def prompts_in(folder: Path, name: str, net: Any) -> Prompts:
    """As the tokenizer in the folder says, up to the length that it and the network take."""
    tokenizer = tokenizer_in(folder, name)
    return Prompts.by(tokenizer, length_of(net, tokenizer, name))


def tokenizer_in(folder: Path, name: str) -> Any:
    """The tokenizer in a folder; without its files transformers would make one that knows no word."""
    if not any(any(folder.glob(file)) for file in VOCABULARY):
        raise BadModel(
            f"{name}: no tokenizer (tokenizer.json, vocab.txt, ...) in {str(folder)!r}; save it beside the model"
        )
    return read(library().AutoTokenizer, folder, name)


def listen_in(folder: Path, name: str, net: Any) -> Listen:
    """As the feature extractor's configuration in the folder says."""
    if not (folder / "preprocessor_config.json").exists():
        raise BadModel(
            f"{name}: no preprocessor_config.json in {str(folder)!r}; save the feature extractor beside the model"
        )
    return Listen.of(net, read(library().AutoFeatureExtractor, folder, name))


def watch_in(folder: Path, name: str, net: Any) -> Watch:
    """As the configuration of the image processor in the folder says, for each frame."""
    return Watch.of(net, preprocess_in(folder, name))


def preprocess_of(net: Any) -> tuple[Preprocess | Listen | Watch, str] | None:
    """Of a network already built: from the folder it came from, else its kind's default at its size, with a note."""
    config = net.config
    ways: dict[str, Callable[[Path, str, Any], Preprocess | Listen | Watch]] = {"audio": listen_in, "video": watch_in}
    medium = next((name for name, mapping in media().items() if type(config) in mapping), "")
    origin = config.name_or_path or ""
    saved = str(Path(origin, "preprocessor_config.json")) if origin else ""
    if NAME.fullmatch(origin) and not Path(saved).is_file():
        saved = need("huggingface_hub", "transformers").try_to_load_from_cache(origin, "preprocessor_config.json")
    if isinstance(saved, str) and Path(saved).is_file():
        return ways.get(medium, preprocess_in)(Path(saved).parent, origin, net), note_of(config)
    size = getattr(config, "image_size", None)
    kinds = need("transformers.models.auto.image_processing_auto", "transformers")
    entry = kinds.IMAGE_PROCESSOR_MAPPING_NAMES.get(config.model_type) or {}
    if medium or size is None or "pil" not in entry:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    default = kinds.get_image_processor_class_from_name(entry["pil"])(size={"height": height, "width": width})
    plain = {**default.to_dict(), "do_center_crop": False, "image_processor_type": "ViTImageProcessor"}
    plain.pop("crop_pct", None)
    mean = tuple(default.image_mean)
    return from_transformers(
        plain
    ), f"preprocessing: the default of {config.model_type} (mean {mean}); give preprocess="


def wrapped(net: Any, how: How) -> Any:
    """The network as the waist sees it: called with pictures where it is not with tokens, and with scores as output."""
    return how.wrapped(net) if isinstance(how, Listen | Prompts | Watch) else net


def fitting(net: Any, how: How) -> How:
    """Prompts for a language model, whatever prepares its texts."""
    return Prompts.by(how.tokenizer, how.length) if is_prompted(net) and isinstance(how, Encode) else how


def is_prompted(net: Any) -> bool:
    """Whether it is a language model, which continues texts."""
    return type(net).__name__.endswith(CONTINUES)


def names_of(config: Any, how: How) -> Labels | Vocabulary | None:
    """Of the classes: of a language model its tokens."""
    return Vocabulary(how.tokenizer, config.vocab_size) if isinstance(how, Prompts) else labels_of(config)


def labels_of(config: Any) -> Labels | None:
    """id2label, unless it holds placeholders."""
    names = config.id2label or {}
    if not names or all(name == f"LABEL_{index}" for index, name in names.items()):
        return None
    return Labels.of(in_order(names))
