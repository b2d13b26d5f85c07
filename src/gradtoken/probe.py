"""The waist: what a method may know about one forward pass, for any model."""

import copy
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradtoken import blocks, passes
from gradtoken.align import aligned
from gradtoken.anatomy import Anatomy, OtherPath
from gradtoken.attention import Attention, reachable, working_dtype
from gradtoken.call import Call
from gradtoken.errors import NoAttention, NoBlocks, NoGrid
from gradtoken.first import First, first_pass, reaching, reading
from gradtoken.inputs import Inputs, batch_of, picture_of, signature, tensors, with_picture
from gradtoken.keeping import Memory, kept_by
from gradtoken.lazy import once
from gradtoken.look import Learnt, look, sequence
from gradtoken.record import Recorder
from gradtoken.run import Run, heads_in, past_residuals
from gradtoken.state import original, untouched
from gradtoken.targets import Chosen, Target
from gradtoken.tokens import Layout

LEARNT: WeakKeyDictionary[nn.Module, dict[Any, Learnt]] = WeakKeyDictionary()
ANATOMY: WeakKeyDictionary[nn.Module, dict[Any, Anatomy]] = WeakKeyDictionary()


class Probe:
    """One forward pass of `net`, with the gradient of each target's score by the last attention's query.

    inputs: a tensor, a tuple of arguments or a mapping of keyword arguments, batch first.
    target: class indices of shape (B,) or (B, K), one index for all, None for the predicted class, or a callable from
    the model's output to scores of shape (B,) or (B, K).
    memory: what is kept of `earlier` attentions, see `gradtoken.keeping`.

    Nothing is computed before it is read, but for the pass that learns a new model's layout.
    """

    def __init__(self, net: nn.Module, inputs: Inputs, target: Target = None, memory: Memory = "keep") -> None:
        self.net, self.inputs, self.target = original(net), inputs, target
        self.memory, self.keeping = memory, kept_by(memory)
        self.batch, self.picture = batch_of(inputs), picture_of(inputs)
        self.rules: TorchFunctionMode | None = None  # of all further passes
        self.probability = False
        self._first: First | None = None
        known = LEARNT.setdefault(self.net, {}).get(signature(inputs))
        self._facts = self._learn() if known is None else known

    def _learn(self) -> Learnt:
        """Run the model and look at its tokens."""
        with untouched(self.net, tensors(self.inputs)):
            self._first = first_pass(self.net, self.inputs, self.target, Recorder(keeping=self.keeping))
            facts = look(self)
        if facts.limit is None or not callable(self.target):  # another callable may read what this one does not
            LEARNT[self.net][signature(self.inputs)] = facts
        return facts

    @property
    def first(self) -> First:
        """The first pass: through the tail alone, unless a method asked for the whole graph before."""
        if self._first is None:
            with untouched(self.net, tensors(self.inputs)):
                record = Recorder(self._facts.start, limit=self._facts.limit, keeping=self.keeping)
                self._first = first_pass(self.net, self.inputs, self.target, record)
            if len(self._first.calls) != self._facts.count:  # the model took another path than the first time
                self._facts = self._learn()
        return self._first

    @property
    def known(self) -> Learnt:
        """What was learnt, after a pass that went the same way."""
        self.first  # noqa: B018  which may learn anew
        return self._facts

    def adopt(self, first: First) -> bool:
        """Take a whole pass for the first one, where none was made and it went as the model went before."""
        fits = self._first is None and len(first.calls) == self._facts.count
        if fits:
            self._first = first
        return fits

    @property
    def is_new(self) -> bool:
        """Whether no pass was made yet, and a whole one may be the first: for class logits, which were read before."""
        return self._first is None and getattr(self.target, "reads_logits", not callable(self.target))

    @once
    def chosen(self) -> Chosen:
        """The targets, fixed."""
        return self.first.chosen

    @property
    def several(self) -> bool:
        """Whether targets came as (B, K)."""
        return self.chosen.several

    @property
    def logits(self) -> Tensor | None:
        """(B, classes), or None where a callable target reads another output."""
        return self.first.logits

    @property
    def scores(self) -> Tensor:
        """Raw scores of the targets, before any softmax. (B, K)"""
        return self.first.scores

    @property
    def calls(self) -> list[Call]:
        """Every attention of the model, as it was called."""
        return self.first.calls

    @property
    def limit(self) -> int | None:
        """How many attentions count, where the score depends on no later one."""
        return self._facts.limit

    @property
    def blocks(self) -> list[int]:
        """Numbers of the attentions over the tokens of the last one, itself included."""
        return self.known.blocks

    @once
    def layout(self) -> Layout:
        """Which tokens are content, and their grid."""
        return self.known.layout or sequence(self)

    # What methods read ----------------------------------------------------------------------------------------------

    @once
    def last(self) -> Attention:
        """The last attention of the model: (B, H, N, M)."""
        attention = aligned(self.calls[-1], self.batch)
        if attention is None:
            raise NoAttention(
                f"the last attention works on {tuple(self.calls[-1].q.shape)}, not on the tokens of {self.batch} "
                "inputs: windows or groups of tokens that cannot be put back on the picture"
            )
        return replace(attention, cross=blocks.is_cross(self.calls))

    @once
    def dq(self) -> Tensor:
        """Gradient of each score by the last query before its scale. (B, K, H, N, D), float32 or float64"""
        tail, last = self.first.tail, len(self.blocks) - 1
        if tail is None:
            return reaching(self.net, self.plain.gradient("q", last), len(self.calls)) * self.calls[-1].q_factor
        dq = torch.stack([g.reshape(self.last.q.shape) for g in tail.dq], dim=1)
        return dq.to(working_dtype(dq))

    @once
    def end(self) -> tuple[Tensor, Tensor]:
        """Values v of the last attention, (B, H, M, D), and gradient of each score by Z = A v, (B, K, H, N, D)."""
        tail, last = self.first.tail, len(self.blocks) - 1
        if tail is None:
            return self.plain.value("v", last), self.plain.gradient("Z", last)
        read = heads_in(tail.v, self.batch, self.last.shape[1]).read
        v, dZ = read(tail.v), torch.stack([read(g) for g in tail.dZ], dim=1)
        return v.to(working_dtype(v)), dZ.to(working_dtype(dZ))

    @once
    def attention(self) -> list[Attention]:
        """The attentions over the tokens of the last one, itself included: all of them in a plain ViT."""
        earlier = [aligned(self.calls[number], self.batch) for number in self.blocks[:-1]]
        return [*(a for a in earlier if a is not None), self.last]

    @once
    def earlier(self) -> list[Attention]:
        """The attentions before the last one over the same tokens, in order."""
        return self.attention[:-1]

    @once
    def readers(self) -> Tensor:
        """Query rows of the last attention that the score depends on: the class token, or every pooled token. (B, N)"""
        return reading(self.dq)

    @once
    def reachable(self) -> Tensor:
        """Tokens that the readers may attend to; padding is False. (B, M)"""
        return reachable(self.last, self.readers)

    # Further passes -------------------------------------------------------------------------------------------------

    @once
    def plain(self) -> Run:
        """One whole forward pass with its graph, as the model makes it; all methods read the same one."""
        return self.run()

    def run(self, **how: Any) -> Run:
        """One more forward pass, in another way; see `passes.run`."""
        how = {"rules": self.rules, "probability": self.probability} | how
        try:
            return passes.run(self, **how)
        except OtherPath:
            if how.get("inputs") is not None:
                raise
            self.__dict__["anatomy"] = passes.find_anatomy(self)  # what was known was learnt from other inputs
            return passes.run(self, **how)

    def under(self, rules: TorchFunctionMode, probability: bool = False) -> "Probe":
        """The same probe, but further passes, `plain` too, are made under rules that modify gradients."""
        self.dq  # noqa: B018  which says what is read, and is the model's own
        other = copy.copy(self)
        other.rules, other.probability = rules, probability
        other.__dict__["plain"] = other.run()
        return other

    def score(self, **how: Any) -> Tensor:
        """Scores of one more forward pass without a graph; see `passes.run`. (m * B, K)"""
        return self.run(graph=None, **how).scores

    def pictured(self, pictures: Tensor) -> Inputs:
        """The inputs with other pictures: m repeats of the batch. (m * B, C, H, W)"""
        return with_picture(self.inputs, self.grid, pictures)

    @once
    def anatomy(self) -> Anatomy:
        """Where the blocks begin and end."""
        facts, key = ANATOMY.setdefault(self.net, {}), (signature(self.inputs), self.batch)
        return facts.get(key) or facts.setdefault(key, passes.find_anatomy(self))

    @once
    def followed(self) -> list[int]:
        """Which of `blocks` have a residual connection that was found, past an attention over all their tokens."""
        return past_residuals(self.anatomy, self.blocks, self.attention)

    @property
    def missing_blocks(self) -> str:
        """Why a block has no input or output."""
        found = len(self.followed)
        return (
            f"{type(self.net).__name__} has {len(self.blocks)} attentions over the tokens that are explained, and a "
            f"residual connection past {found} of them was found; this method needs the inputs and outputs of blocks"
        )

    # What a method may need -----------------------------------------------------------------------------------------

    @property
    def residual(self) -> list[int]:
        """Which of `blocks` have a residual connection: all but an attention pooling. Raises NoBlocks for none."""
        if not self.followed or self.anatomy.end is None:
            raise NoBlocks(self.missing_blocks)
        return self.followed

    @property
    def stream(self) -> list[int]:
        """These, where no decoder's tokens have a stream of their own. Raises NoBlocks where they do."""
        blocks.check_stream(type(self.net).__name__, self.last, len(self.blocks) - 1 in self.residual)
        return self.residual

    @property
    def grid(self) -> Tensor:
        """The pictures of the batch. (B, C, H, W). Raises NoGrid for other inputs."""
        if self.picture is None:
            raise NoGrid("this method erases or mixes parts of a picture; expected inputs (B, C, H, W), got none")
        return self.picture
