"""From a caption to the tokens of a text tower, and where in the caption each of them lies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradtoken.errors import BadTarget, BadText
from gradtoken.models.text import Encode, Encoded, Token, Windows
from gradtoken.words import Span

Numbers = list[int]
LOST = "\N{REPLACEMENT CHARACTER}"  # what a part of a letter decodes to


@dataclass(frozen=True, eq=False)
class Captions(Encode):
    """Tokens of captions, which are read whole: one that is too long is refused, never cut.

    tokenizer: of transformers or of open_clip. length: the most tokens that the text tower reads, special ones
    included. fixed: captions are padded to that length and the padding is read, as in the training of SigLIP.
    """

    fixed: bool = False

    def __post_init__(self) -> None:
        """Any tokenizer does, whether or not it says where its tokens lie."""

    @property
    def is_open(self) -> bool:
        """Whether it is a tokenizer of open_clip, which always pads, by a number that may also be a word's."""
        return not hasattr(self.tokenizer, "convert_ids_to_tokens")

    def inputs(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """What the text tower is called with. (B, N) each"""
        for caption in captions:
            self.check(caption)
        if self.is_open:
            return {"text": self.tokenizer(list(captions), context_length=self.length)}
        found = self.found(list(captions), return_tensors="pt")
        return {name: found[name] for name in self.tokenizer.model_input_names if name in found}

    def found(self, captions: str | list[str], **options: Any) -> Any:
        """What a tokenizer of transformers says."""
        padding: dict[str, Any] = {"padding": "max_length", "max_length": self.length} if self.fixed else {}
        return self.tokenizer(captions, **({"padding": isinstance(captions, list)} | padding | options))

    def check(self, caption: str) -> None:
        """Refuse a caption without a word, and one that is too long."""
        if not caption.strip():
            raise BadText("a caption is empty; expected at least one word")
        if self.is_open:
            shorter, longer = (self.tokenizer([caption], context_length=self.length + i)[0] for i in (0, 1))
            fits = torch.equal(longer[: self.length], shorter)  # cut off, the last token is an end token
        else:
            fits = len(self.tokenizer(caption, verbose=False)["input_ids"]) <= self.length
        if not fits:
            raise BadText(
                f"the caption {caption[:60]!r} ... has more tokens than the {self.length} that the text tower reads, "
                "special ones included; shorten it"
            )

    # For the words of a caption -------------------------------------------------------------------------------------

    def __call__(self, text: str) -> Encoded:
        """The tokens of one caption."""
        return self.windows(text).parts[0]

    def windows(self, text: str, overlap: int | None = None) -> Windows:
        """The caption as one part. Raises BadText where it is not clear which word a token belongs to."""
        if overlap is not None:
            raise BadTarget("a caption is read whole; leave out windows")
        inputs, tokens = self.inputs([text]), self.tokens(text)
        part = Encoded({name: x[0] for name, x in inputs.items()}, tuple(span for span, _ in tokens), truncated=False)
        content = sum(span is not None for span, _ in tokens)
        return Windows(tokens, (part,), (tuple(range(len(tokens))),), content)

    def padded(self, texts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Inputs of one caption as a batch."""
        return {name: torch.stack([text[name] for text in texts]) for name in texts[0]}

    def tokens(self, caption: str) -> tuple[Token, ...]:
        """Place and name of each token; of open_clip's own tokenizer those after the end are left out: nothing reads
        them.
        """
        if self.is_open and hasattr(self.tokenizer, "eot_token_id"):
            ids = self.tokenizer([caption], context_length=self.length)[0].tolist()
            ids = ids[: ids.index(self.tokenizer.eot_token_id) + 1]
            names = [self.tokenizer.decoder[i] for i in ids]
            return placed(caption, ids, names, self.tokenizer.all_special_ids, self.tokenizer.decode)
        inner = self.tokenizer.tokenizer if self.is_open else self.tokenizer
        if not self.is_open and inner.is_fast:
            found = self.found(caption, return_offsets_mapping=True, return_special_tokens_mask=True)
            names = inner.convert_ids_to_tokens(found["input_ids"])
            rows = zip(found["offset_mapping"], found["special_tokens_mask"], names, strict=True)
            return tuple((None if special else (int(a), int(b)), name) for (a, b), special, name in rows)
        ids = next(iter(self.inputs([caption]).values()))[0].tolist()
        return placed(caption, ids, inner.convert_ids_to_tokens(ids), inner.all_special_ids, inner.decode)

    def describe(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {"tokenizer": type(self.tokenizer).__name__, "length": self.length, "padded": self.fixed}


def placed(
    caption: str, ids: Numbers, names: Sequence[str], special: Sequence[int], decode: Callable[[Numbers], str]
) -> tuple[Token, ...]:
    """Where the tokens of a tokenizer lie that does not say it."""
    content = [i for i, number in enumerate(ids) if number not in special]
    spans = dict(zip(content, aligned(caption, [ids[i] for i in content], decode), strict=True))
    return tuple((spans.get(i), name) for i, name in enumerate(names))


def aligned(caption: str, ids: Numbers, decode: Callable[[Numbers], str]) -> list[Span]:
    """The place of each token: where what it decodes to comes next, whatever its case.

    Only signs may be left out between. Tokens that make a letter together share its place.
    """
    text, spans, cursor, start = folded(caption), list[Span](), 0, 0
    for end in range(1, len(ids) + 1):
        piece = folded(decode(ids[start:end]).strip())
        if LOST in piece and end < len(ids):
            continue
        at = text.find(piece, cursor)
        if at < 0 or any(map(str.isalnum, text[cursor:at])):
            break
        cursor = at + len(piece)
        spans += [(at, cursor)] * (end - start)
        start = end
    if len(spans) < len(ids) or any(map(str.isalnum, text[cursor:])):
        raise BadText(
            f"{decode(ids[start:])!r}, as the tokenizer reads it, is not found in the caption {caption!r} from "
            f"character {cursor} on, so relevance has no word to go to; write the caption in plain letters"
        )
    return spans


def folded(text: str) -> str:
    """Lower case, letter by letter, so that places stay."""
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
