"""From a prompt, and what is to follow it, to the tokens that a causal language model expects."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gradtoken.errors import BadModel, BadTarget, BadText
from gradtoken.models.language import NextToken
from gradtoken.models.text import Encode, Encoded, Windows
from gradtoken.words import kind

ENDS = ".,:;!?)"  # after which a word begins with a blank


@dataclass(frozen=True)
class Prompts(Encode):
    """Tokens of a prompt, of which the last `length` are read, without those that a tokenizer adds at the end.

    continuation: token numbers; all but the last are read behind the prompt, as special tokens of no place in the text.
    """

    continuation: tuple[int, ...] = ()
    pads: ClassVar[bool] = False

    @classmethod
    def by(cls, tokenizer: Any, length: int) -> "Prompts":
        """With a copy of a tokenizer, which keeps the end of what is too long: what follows depends on it most."""
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.truncation_side = "left"
        return cls(tokenizer, length, ("input_ids", "attention_mask"))

    def wrapped(self, net: nn.Module) -> NextToken:
        """The network, called with these tokens."""
        return NextToken(net)

    def windows(self, text: str, overlap: int | None = None) -> Windows:
        """The end of the text, as much as the network reads, and what follows it."""
        if overlap is not None:
            raise BadTarget("windows= reads a text in parts, and a next token has one prompt; leave it out")
        found = super().windows(text)
        if len(found.tokens) == 1:
            raise BadText(
                f"{text[:40]!r} is one token, and attention over a single one is always 1; expected a longer prompt"
            )
        return found

    def _part(self, found: Any, i: int) -> Encoded:
        part, given = super()._part(found, i), self.continuation[:-1]
        end = 1 + max((j for j, span in enumerate(part.spans) if span is not None), default=len(part.spans) - 1)
        ids = torch.cat([part.inputs["input_ids"][:end], torch.tensor(given, dtype=torch.long)])
        return Encoded(
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            part.spans[:end] + (None,) * len(given),
            part.truncated,
        )

    def padded(self, texts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """As for other texts; and the continuation of each. (B, N), (B, T)"""
        found = super().padded(texts)
        if self.continuation:
            found["continuation"] = torch.tensor(self.continuation).expand(len(texts), -1)
        return found

    def unread(self, content: int, total: int) -> str:
        """What is said where not all was read."""
        return f"the last {content:,} of {total:,} tokens were read"

    def followed(self, text: str, target: str) -> tuple[str, list[int]]:
        """The prompt without blanks at its end, and the tokens by which `target` follows it.

        Both are made into tokens together, as one text. A word behind a word gets a blank between.
        """
        prompt = text.rstrip() or text
        blanks = text[len(prompt) :] or (" " if parted(prompt, target) else "")
        before, whole = self._ids(prompt), self._ids(prompt + blanks + target)
        ids = whole[len(before) :]
        if whole[: len(before)] != before:
            end, joined = (self.tokenizer.convert_ids_to_tokens(x[-3:]) for x in (before, whole))
            raise BadTarget(
                f"{target!r} joins the end of the prompt, whose tokens end in {end} without it, in {joined} with it; "
                "end the prompt where a word ends, or give the number of a token"
            )
        if not ids:
            raise BadTarget(
                f"{target!r} holds no token; expected what may follow the prompt, or None for the prediction"
            )
        if self.tokenizer.unk_token_id in ids:
            raise BadTarget(f"the tokenizer does not know {target!r}; give another target, or the number of a token")
        return prompt, ids

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def before(self, continuation: Sequence[int]) -> "Prompts":
        """Prompts that this continuation follows, shorter by what is read of it."""
        special, length = self.tokenizer.num_special_tokens_to_add(), self.length - len(continuation) + 1
        if length <= special + 1:
            raise BadTarget(
                f"a continuation of {len(continuation):,} tokens leaves no room for a prompt; {self.length:,} are read"
            )
        return replace(self, continuation=tuple(continuation), length=length)


@dataclass(frozen=True)
class Questions(Prompts):
    """Prompts with one picture. number: the token that stands for it; count: how many tokens it becomes."""

    number: int = -1
    count: int = 1

    @property
    def mark(self) -> str:
        """How the picture is written in a text."""
        return str(self.tokenizer.convert_ids_to_tokens(self.number))

    def marked(self, prompt: str) -> str:
        """The prompt with the mark of its picture, in front where it had none. Raises BadText for several."""
        if prompt.count(self.mark) > 1:
            raise BadText(f"the prompt names {prompt.count(self.mark)} pictures with {self.mark}; expected one")
        return prompt if self.mark in prompt else f"{self.mark}\n{prompt}"

    def taking(self, count: int) -> "Questions":
        """With a picture of so many tokens."""
        room = self.length - count + 1
        if room <= self.tokenizer.num_special_tokens_to_add() + 1:
            raise BadModel(f"a picture takes {count:,} tokens of the {self.length:,} that are read, so no prompt fits")
        return replace(self, count=count, length=room)

    def windows(self, text: str, overlap: int | None = None) -> Windows:
        """The prompt whole, its picture's tokens told apart from special ones."""
        found = super().windows(text, overlap)
        ids = found.parts[0].inputs["input_ids"]
        return replace(found, total=found.total - 1, pictured=tuple(ids.eq(self.number).nonzero()[:, 0].tolist()))

    def _part(self, found: Any, i: int) -> Encoded:
        part = super()._part(found, i)
        ids, spans = part.inputs["input_ids"], part.spans
        at = next(iter(ids.eq(self.number).nonzero()[:, 0].tolist()), None)
        if at is None or part.truncated:
            raise BadText(
                f"the prompt has more tokens than the {self.length:,} that are read beside the {self.count:,} of the "
                "picture; shorten it"
            )
        ids = torch.cat([ids[:at], ids.new_full((self.count,), self.number), ids[at + 1 :]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return Encoded(inputs, (*spans[:at], *(None for _ in range(self.count)), *spans[at + 1 :]), truncated=False)


def questions_of(prompts: Prompts, config: Any) -> Questions:
    """Prompts of a network that knows a token for pictures."""
    number = getattr(config, "image_token_id", None)
    if number is None or not 0 <= number < len(prompts.tokenizer):
        raise BadModel(f"config.json says image_token_id={number!r}, which the tokenizer does not have")
    return Questions(prompts.tokenizer, prompts.length, prompts.names, number=number)


def parted(prompt: str, target: str) -> bool:
    """Whether a blank is missing between the end of a prompt and a word."""
    return bool(prompt and target) and kind(target[0]) in "wd" and (kind(prompt[-1]) in "wd" or prompt[-1] in ENDS)
