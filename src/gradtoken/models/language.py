"""Causal language models as classifiers: their classes are the tokens that may follow a prompt."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

import torch
from torch import Tensor, nn

from gradtoken.errors import UnknownName
from gradtoken.models.labels import in_range


class NextToken(nn.Module):
    """What a causal language model says of the token behind each prompt, or of a given continuation.

    net: a network of transformers that returns `logits` (B, N, V). It is run without a cache of keys and values.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.taken = frozenset(inspect.signature(net.forward).parameters)
        config: Any = net.config
        self.num_classes: int = config.get_text_config().vocab_size

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, continuation: Tensor | None = None
    ) -> Tensor:
        """Logits (B, V) of the next token; of a continuation (B, T) its log-probability y and log(1 - e^y), (B, 2).

        input_ids (B, N): prompts, padded on either side where attention_mask (B, N) is 0; of a continuation c all but
        its last token follow the prompt, so that one pass reads every row that is needed (teacher forcing):
        y = sum_t log p(c_t | prompt, c_1 ... c_{t-1}). Its token t is read at row N - 1 + t of the last attention,
        t = 0 ... T - 1 and N the tokens of the prompt. There dy/dq is the gradient of log p(c_t) alone, since nothing
        behind the last attention mixes tokens; so G, the sum of dy/dq over the rows (eq. 6, 7 of GradToken, as for
        models that pool their tokens), is the sum of the gradients that each token of c has by itself, and M = K G is
        the sum of their maps: signed relevance adds up over c as y does. Keys of the prompt are seen by all these rows.
        """
        behind = input_ids.shape[1] - 1 - beyond(input_ids, attention_mask)
        T = 1 if continuation is None else continuation.shape[1]
        logits = self.logits_at(
            behind[:, None] + torch.arange(1 - T, 1, device=behind.device), input_ids, attention_mask
        )
        if continuation is None:
            return logits[:, 0]
        y = logits.log_softmax(dim=2).gather(2, continuation[:, :, None]).sum(dim=(1, 2))
        least = torch.finfo(y.dtype).eps
        return torch.stack([y, (1 - y.exp()).clamp(min=least).log()], dim=1)

    def words(self, input_ids: Tensor) -> dict[str, Tensor]:
        """The tokens as the network is given them."""
        return {"input_ids": input_ids}

    def logits_at(self, rows: Tensor, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Logits at these tokens of each prompt, and where the network can leave out the others, at no others.

        rows (B, T) -> (B, T, V)
        """
        given: dict[str, Any] = {**self.words(input_ids)}
        if attention_mask is not None:
            places = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)  # padding in front is no place
            given |= {"attention_mask": attention_mask, "position_ids": places}
        kept, numbers = torch.unique(rows, return_inverse=True)
        if "logits_to_keep" in self.taken:
            given["logits_to_keep"], rows = kept, numbers
        given["use_cache"] = False
        logits: Tensor = self.net(**{name: x for name, x in given.items() if name in self.taken}).logits
        return logits[torch.arange(len(rows), device=rows.device)[:, None], rows]


def beyond(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """How many padding tokens follow the last token of each prompt. (B,)"""
    if attention_mask is None:
        return input_ids.new_zeros(len(input_ids))
    return attention_mask.flip(1).ne(0).int().argmax(dim=1)


@dataclass(frozen=True, repr=False)
class Vocabulary(Sequence[str]):
    """The tokens as names of classes, as they stand in a text: ` Paris` with the blank before it. Made when asked for.

    size: rows of the model's table, which may hold more than the tokenizer has.
    """

    tokenizer: Any
    size: int

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        numbers = range(self.size)[index]
        return self.text(numbers) if isinstance(numbers, int) else [self.text(i) for i in numbers]

    def __repr__(self) -> str:
        return f"Vocabulary({self.size} tokens)"

    def text(self, number: int) -> str:
        """One token; what is no text by itself, such as part of a letter, as the tokenizer has it."""
        if number >= len(self.tokenizer):  # a row of the table of embeddings that no token has
            return f"token {number}"
        found = written(self.tokenizer, [number])
        whole = found and "\N{REPLACEMENT CHARACTER}" not in found
        return found if whole else str(self.tokenizer.convert_ids_to_tokens(number))

    def find(self, target: SupportsIndex | str) -> int:
        """A token's number, or the number of the one token that a text is."""
        if not isinstance(target, str):
            return in_range(target, self.size)
        ids = self.tokenizer(target, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UnknownName(f"{target!r} is {len(ids)} tokens; gradtoken.explain takes it as a continuation")
        return int(ids[0])


def written(tokenizer: Any, numbers: Sequence[int]) -> str:
    """Tokens as they stand behind a letter, where decoders keep a blank; line breaks and the like are written out."""
    letter = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
    before, both = (tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in (letter, [*letter, *numbers]))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in both.removeprefix(before))
