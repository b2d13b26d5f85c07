"""From a text to the tokens a network expects, and where in the text each of them lies."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradtoken.errors import BadModel, BadTarget
from gradtoken.words import Span

Token = tuple[Span | None, str]


@dataclass(frozen=True, eq=False)
class Encoded:
    """inputs: what the network is called with, (N,) each. truncated: whether it reads only a part of the text.

    spans: first and end character of each token in the text, None for special tokens.
    """

    inputs: Mapping[str, Tensor]
    spans: tuple[Span | None, ...]
    truncated: bool


@dataclass(frozen=True, eq=False)
class Windows:
    """A text that is read in one or more parts. tokens: all that are read, place in the text and name; special once.

    parts: each as it is read. numbers: of each part's tokens, which of `tokens` they are. total: content tokens of the
    whole text, read or not. pictured: numbers of the tokens that a picture became.
    """

    tokens: tuple[Token, ...]
    parts: tuple[Encoded, ...]
    numbers: tuple[tuple[int, ...], ...]
    total: int
    pictured: tuple[int, ...] = ()

    @property
    def content(self) -> int:
        """How many tokens are read that are none of the special ones."""
        return sum(span is not None for span, _ in self.tokens)


@dataclass(frozen=True)
class Encode:
    """Tokens of a text, cut off after `length` of them, special ones included. tokenizer: a fast one of transformers.

    names: of what the network is called with, by default all that the tokenizer makes. Nothing is padded but by
    `padded`.
    """

    tokenizer: Any
    length: int
    names: tuple[str, ...] | None = None
    pads: ClassVar[bool] = True  # whether a network may depend on which token padding is

    def __post_init__(self) -> None:
        kind, special = type(self.tokenizer).__name__, self.tokenizer.num_special_tokens_to_add()
        if not self.tokenizer.is_fast:
            raise BadModel(f"{kind} does not say where in the text its tokens lie; expected a fast tokenizer")
        if self.pads and self.tokenizer.pad_token_id is None:
            raise BadModel(f"{kind} has no padding token, so texts cannot be batched; set its pad_token")
        if self.length <= special:
            raise BadModel(f"expected a length above the {special} special tokens of {kind}, got {self.length}")

    def __call__(self, text: str) -> Encoded:
        """The tokens of one text."""
        return self._part(self._found(text, 0), 0)

    def windows(self, text: str, overlap: int | None = None) -> Windows:
        """The text in parts as long as the network reads, which share `overlap` tokens; None: the first part alone."""
        room = self.length - self.tokenizer.num_special_tokens_to_add()
        if overlap is not None and not 0 <= overlap < room:
            raise BadTarget(f"expected windows that share 0 to {room - 1} tokens of the {room} in each, got {overlap}")
        found = self._found(text, overlap or 0)
        count = len(found["input_ids"])
        parts = [self._part(found, i) for i in range(1 if overlap is None else count)]
        contents = [sum(span is not None for span in part.spans) for part in parts]
        last = contents[-1] if overlap is not None else sum(not special for special in found["special_tokens_mask"][-1])
        total = (count - 1) * (room - (overlap or 0)) + last
        step = room - (overlap or 0)
        left = self.tokenizer.truncation_side == "left"  # then the first part is the end of the text
        starts = [max(0, total - n - i * step) if left else i * step for i, n in enumerate(contents)]
        return joined(parts, [start - min(starts) for start in starts], total, self.tokenizer.convert_ids_to_tokens)

    def _found(self, text: str, overlap: int) -> Any:
        return self.tokenizer(
            text,
            truncation=True,
            max_length=self.length,
            stride=overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )

    def _part(self, found: Any, i: int) -> Encoded:
        names = [name for name in self.names or self.tokenizer.model_input_names if name in found]
        pairs = zip(found["offset_mapping"][i], found["special_tokens_mask"][i], strict=True)
        return Encoded(
            inputs={name: torch.tensor(found[name][i], dtype=torch.long) for name in names},
            spans=tuple(None if special else (int(a), int(b)) for (a, b), special in pairs),
            truncated=len(found["input_ids"]) > 1,
        )

    def padded(self, texts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Inputs of several texts, padded at their end to the longest and masked there. (B, N) each"""
        width = max(len(text["input_ids"]) for text in texts)
        fill = {"input_ids": self.tokenizer.pad_token_id or 0, "token_type_ids": self.tokenizer.pad_token_type_id}

        def filled(x: Tensor, name: str) -> Tensor:
            return F.pad(x, (0, width - len(x)), value=fill.get(name, 0))

        return {name: torch.stack([filled(text[name], name) for text in texts]) for name in texts[0]}

    def unread(self, content: int, total: int) -> str:
        """What is said where not all was read."""
        return f"{content:,} of {total:,} tokens were read; windows={content // 4} reads all"

    def describe(self) -> dict[str, Any]:
        """All settings as JSON values; the tokenizer as a digest of all that decides its tokens."""
        whole = json.loads(self.tokenizer.backend_tokenizer.to_str())
        rules = {name: value for name, value in whole.items() if name not in ("truncation", "padding")}  # of a call
        digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]
        names = list(self.names or self.tokenizer.model_input_names)
        return {"tokenizer": type(self.tokenizer).__name__, "rules": digest, "length": self.length, "names": names}


def joined(
    parts: Sequence[Encoded], starts: Sequence[int], total: int, name: Callable[[list[int]], list[str]]
) -> Windows:
    """Parts whose content begins at the content tokens `starts`, with the same special tokens before and after."""
    places = [[j for j, span in enumerate(part.spans) if span is not None] for part in parts]
    head = places[0][0] if places[0] else len(parts[0].spans)
    read = max(start + len(inner) for start, inner in zip(starts, places, strict=True))
    tokens: dict[int, Token] = {}
    numbers = []
    for part, start, inner in zip(parts, starts, places, strict=True):
        shift = [0] * head + [start] * len(inner) + [read - len(inner)] * (len(part.spans) - head - len(inner))
        numbers.append(tuple(j + by for j, by in enumerate(shift)))
        names = name(part.inputs["input_ids"].tolist())
        tokens |= dict(zip(numbers[-1], zip(part.spans, names, strict=True), strict=True))
    return Windows(tuple(tokens[i] for i in sorted(tokens)), tuple(parts), tuple(numbers), total)


def encode_of(net: nn.Module, tokenizer: Any, name: str) -> Encode:
    """For a network with its tokenizer: as many tokens as both take."""
    config: Any = net.config
    if config.pad_token_id is None or config.pad_token_id != tokenizer.pad_token_id:
        raise BadModel(
            f"{name}: the model's pad_token_id is {config.pad_token_id}, that of its tokenizer "
            f"{tokenizer.pad_token_id}; set both to one token in config.json and the tokenizer's files"
        )
    taken = inspect.signature(net.forward).parameters
    names = tuple(name for name in tokenizer.model_input_names if name in taken)
    return Encode(tokenizer, length_of(net, tokenizer, name), names)


def length_of(net: nn.Module, tokenizer: Any, name: str) -> int:
    """As many tokens as the network and its tokenizer take; they must know the same ones."""
    config: Any = net.config
    config = config.get_text_config()
    if len(tokenizer) > config.vocab_size:
        raise BadModel(
            f"{name}: its tokenizer has {len(tokenizer)} tokens and the model {config.vocab_size}; use the tokenizer "
            "that the model was trained with"
        )
    limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None), *positions(net)]
    length = min(limit for limit in limits if isinstance(limit, int))
    if length > 10**9:  # what transformers writes where nobody said
        raise BadModel(f"{name} does not say how many tokens it reads; set model_max_length of its tokenizer")
    return length


def positions(net: nn.Module) -> list[int]:
    """Entries of its tables of positions; some families leave those up to the padding token's number unused."""
    tables = [
        module
        for name, module in net.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    return [t.num_embeddings - (0 if t.padding_idx is None else t.padding_idx + 1) for t in tables]
