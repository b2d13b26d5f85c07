"""What the configuration of a transformers model says it reads, and what of its readout."""

import inspect
from typing import Any

from gradtoken.models._torchvision import ensure_torchvision
from gradtoken.models.extras import need
from gradtoken.models.hub import ANSWERS, CONTINUES, JOINT


def library() -> Any:
    ensure_torchvision()
    return need("transformers", "transformers")


def subject_of(config: Any) -> str:
    """What it reads: audio, video, prompt, question (with a picture), text or image; "" where it has no such head."""
    heads = config.architectures or []
    found = library()
    for reads, mapping in media().items():
        if type(config) in mapping:
            return reads if mapping[type(config)].__name__ in heads else ""
    if any(head.endswith(CONTINUES) and not is_shown(getattr(found, head, None)) for head in heads):
        return "prompt"
    if any(head in (*ANSWERS, *JOINT) for head in heads):
        return "question"
    marks = {"text": "ForSequenceClassification", "image": "ForImageClassification"}
    return next((reads for reads, mark in marks.items() if any(mark in head for head in heads)), "")


def is_shown(kind: Any) -> bool:
    """Whether networks of a class are called with pictures too: GIT, by its name a language model."""
    taken = inspect.signature(kind.forward).parameters if kind is not None else ()
    return any(name.startswith(("pixel_values", "image_")) for name in taken)


def media() -> dict[str, Any]:
    """Classifiers of sounds and of films, by configuration."""
    found = library()
    return {
        "audio": found.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
        "video": found.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING,
    }


def note_of(config: Any) -> str:
    """What should be known of its readout."""
    weighted = getattr(config, "use_weighted_layer_sum", False)
    return "the head reads all layers; only what passes the last attention is explained" if weighted else ""


def is_independent(config: Any) -> bool:
    """Whether the model was trained to tell of each class by itself whether it is there."""
    return getattr(config, "problem_type", None) == "multi_label_classification"
