"""A loaded network with everything that explaining it takes."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gradtoken.errors import BadModel, BadTarget, GradTokenError
from gradtoken.keeping import Memory
from gradtoken.models.captions import Captions
from gradtoken.models.extras import need as need
from gradtoken.models.film import Watch
from gradtoken.models.joint import Beside
from gradtoken.models.labels import Labels
from gradtoken.models.language import Vocabulary
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.prompt import Questions
from gradtoken.models.sound import Listen
from gradtoken.models.text import Encode
from gradtoken.models.weights import brief, check_finite
from gradtoken.targets import Independent

How = Preprocess | Encode | Listen | Watch
HEADLESS = "gives features, not classes: the target must be similarity_to(PICTURE) or a callable on its output"


@runtime_checkable
class Pipeline(Protocol):
    """A network with all that it takes to classify pictures, texts or sounds, as `transformers.pipeline` makes them."""

    task: str
    model: nn.Module


@dataclass(frozen=True)
class Model:
    """preprocess: of what it reads. name: as asked for. source: one phrase on the origin of the weights.

    note: what the user should know, or "". independent: whether each class has a probability of its own, a sigmoid,
    as several of them may be there. captions: how captions are read, of a network with a tower for them. prompts: how
    the text beside a picture is read, of a network of both. memory: what explaining it keeps, see
    `gradtoken.keeping`.
    """

    net: nn.Module
    name: str
    preprocess: How
    labels: Labels | Vocabulary | None
    source: str
    note: str = ""
    independent: bool = False
    captions: Captions | None = None
    prompts: Questions | Beside | None = None
    memory: Memory = "keep"

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of the classes: a softmax, or where they are independent of each other sigmoids. (..., classes)"""
        return logits.sigmoid() if self.independent else logits.softmax(dim=-1)

    def classes(self, indices: Iterable[Iterable[int]]) -> list[list[int]]:
        """Classes of each input as targets that methods on probabilities read as `probabilities` does."""
        return (Independent if self.independent else list)([*one] for one in indices)

    @property
    def reads_texts(self) -> bool:
        """Whether it takes texts, and no pictures."""
        return isinstance(self.preprocess, Encode)

    @property
    def reads_sounds(self) -> bool:
        """Whether it takes sounds."""
        return isinstance(self.preprocess, Listen)

    @property
    def watches_films(self) -> bool:
        """Whether it takes films."""
        return isinstance(self.preprocess, Watch)

    @property
    def for_pictures(self) -> Preprocess:
        """How pictures are prepared. Raises BadModel for a model of texts or sounds."""
        if isinstance(self.preprocess, Encode):
            raise BadModel(
                f"{self.name} reads texts; expected a model of pictures. For texts there are gradtoken.explain, "
                "gradtoken.attribute and the protocols on words, such as movies/eraser"
            )
        if isinstance(self.preprocess, Listen):
            raise BadModel(
                f"{self.name} reads sounds; expected a model of pictures. For sounds there are gradtoken.explain, "
                "gradtoken.compare and gradtoken.attribute"
            )
        if isinstance(self.preprocess, Watch):
            raise BadModel(
                f"{self.name} watches films; expected a model of pictures. For films there are gradtoken.explain and "
                "gradtoken.attribute"
            )
        return self.preprocess

    @property
    def for_films(self) -> Watch:
        """How films are prepared. Raises BadModel for another model."""
        if not isinstance(self.preprocess, Watch):
            raise BadModel(f"{self.name} reads {self.subject}; expected a model of films")
        return self.preprocess

    @property
    def for_prompts(self) -> Questions | Beside:
        """How a text beside a picture is read. Raises BadTarget for another model."""
        if self.prompts is None:
            raise BadTarget(f"{self.name} reads {self.subject} and no text beside them; leave out prompt")
        return self.prompts

    @property
    def subject(self) -> str:
        """What it reads."""
        return {Encode: "texts", Listen: "sounds", Watch: "films"}.get(type(self.preprocess), "pictures")

    @property
    def for_sounds(self) -> Listen:
        """How sounds are prepared. Raises BadModel for another model."""
        if not isinstance(self.preprocess, Listen):
            raise BadModel(f"{self.name} reads {self.subject}; expected a model of sounds, with its feature extractor")
        return self.preprocess

    @property
    def for_texts(self) -> Encode:
        """How texts become tokens. Raises BadModel for another model."""
        if not isinstance(self.preprocess, Encode):
            if self.captions is not None:
                raise BadModel(
                    f"{self.name} compares pictures with captions; for the words of captions give the picture, its "
                    "captions with --target, and --words; in Python target= and words=True"
                )
            raise BadModel(f"{self.name} reads {self.subject}; expected a model of texts, with its tokenizer")
        return self.preprocess


def settle(model: Model, device: torch.device | str | None, dtype: torch.dtype | str | None) -> Model:
    """The model in evaluation mode, on its device, with finite weights."""
    check_finite(model.net, model.name)
    return replace(model, net=move(model.net, device, dtype).eval())


def move(net: nn.Module, device: torch.device | str | None, dtype: torch.dtype | str | None) -> nn.Module:
    """The network on a device and in a number format; None leaves as is."""
    number = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(number, torch.dtype) and number.is_floating_point):
        raise BadModel(f"dtype={dtype!r}; expected float32, float16, bfloat16 or float64")
    try:
        return net.to(device=device, dtype=number)
    except (RuntimeError, AssertionError) as error:
        raise BadModel(f"the model cannot be moved to device {str(device)!r}: {error}; try device='cpu'") from error


def check_names(labels: Sequence[str] | None, classes: int | None) -> None:
    """Refuse labels of which there is not one for each class."""
    if labels is not None and classes and len(labels) != classes:
        raise BadModel(f"{len(labels)} class names were given for a model with {classes} classes; they must match")


@contextmanager
def prepared(model: Model) -> Iterator[None]:
    """What a network raises on an input that was prepared as its settings say, as BadModel."""
    try:
        yield
    except (GradTokenError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError) as error:
        raise BadModel(
            f"{model.name} fails on an input that was prepared as its settings say: {brief(error)}; "
            "give preprocess= that fits the model"
        ) from error
