"""Further forward passes of a model whose first one was seen: in the open, on other inputs, from the middle on."""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradtoken.align import aligned
from gradtoken.anatomy import PLACES, Anatomy, BlockFinder
from gradtoken.attention import Attention
from gradtoken.call import Call
from gradtoken.errors import BadModel, NoAttention, NoBlocks
from gradtoken.first import First, check_followed, check_repeats
from gradtoken.inputs import Inputs, apply, batch_of, explained_of, mapped, own, signature, tensors
from gradtoken.progress import track
from gradtoken.run import Node, Place, Run, heads_in, tokens_in
from gradtoken.state import untouched
from gradtoken.tape import Edit, Tape, same
from gradtoken.targets import logits_of, read

if TYPE_CHECKING:
    from gradtoken.probe import Probe

RESTARTS: WeakKeyDictionary[nn.Module, dict[Any, bool]] = WeakKeyDictionary()
BUDGET = 2**28  # bytes that the largest results of a micro-batch may take
ON_DEVICES = 2**32  # the same elsewhere than on a processor, where small micro-batches are slow
HEAP = 2**25  # bytes of a result from which on glibc asks the system for fresh memory each time, which is slow
RESULTS = 6  # results of the largest kind alive at once in a forward pass without a graph, at most
SAVED = 4  # results of the largest kind that a graph keeps for each block


def find_anatomy(probe: "Probe") -> Anatomy:
    """Where the blocks begin and end, from one forward pass without a graph."""
    finder = BlockFinder()
    inputs = own(probe.inputs)
    for number, x in enumerate(floating_leaves(inputs)):
        finder.numbers[x] = -1 - number
    with untouched(probe.net, tensors(inputs)), torch.no_grad(), Tape(set(), finder=finder, limit=probe.limit):
        output = apply(probe.net, inputs)
    check_repeats(probe.net, probe.first, output)
    return finder.anatomy


@torch.inference_mode(False)
def run(
    probe: "Probe",
    *,
    inputs: Inputs | None = None,
    edits: Mapping[Place, Edit] | None = None,
    start: Place | None = None,
    rules: TorchFunctionMode | None = None,
    cut: bool = False,
    graph: bool | None = True,
    probability: bool = False,
) -> Run:
    """One more forward pass, see `Run`.

    inputs: others of the same kind, m repeats of the batch. edits: what to put in place of (m * B, N, C) at a place, or
    in place of Z as the model made it. start: a place that is edited; nothing expensive is computed before it.
    rules: a mode under which operations get another gradient. cut: gradients reach each A v on the residual stream
    alone. graph: whether there is one; with None, nothing but scores is kept, and each block's memory serves the next.
    probability: scores are taken after the softmax over all classes.
    """
    first = inputs is None and not edits and not cut and bool(graph) and not probability
    if start is not None:
        check_restart(probe, start)
    inputs = own(probe.inputs if inputs is None else inputs)
    copies = batch_of(inputs) // probe.batch
    changes = numbered(probe, {p: e for p, e in (edits or {}).items() if p[0] != "Z"}, copies * probe.batch)
    with rules or contextlib.nullcontext():
        inputs = edited_leaves(inputs, changes)
    leaves, unseen = floating_leaves(inputs), attentions_before(probe, start)
    explained = explained_of(inputs)
    if graph and explained is not None:
        inputs = mapped(lambda x: differentiable(x) if x is explained else x, inputs)
    tape = Tape(
        None if graph is None else set(probe.anatomy.shapes),
        edits=changes,
        edits_of_Z={probe.blocks[b] - unseen: e for (name, b), e in (edits or {}).items() if name == "Z"},
        skip=0 if start is None else number_of(probe, start),
        cut=cut,
        overwritten=probe.anatomy.overwritten,
        limit=None if probe.limit is None else probe.limit - unseen,
    )
    if (given := explained_of(inputs)) is not None:
        tape.made_of[given] = True
    with untouched(probe.net, leaves), torch.set_grad_enabled(bool(graph)):
        with rules or contextlib.nullcontext(), tape, computed_once(bool(graph) and changes_graph(rules, edits)):
            output = apply(probe.net, inputs)
        probe.anatomy.check(tape.number + 1, type(probe.net).__name__)
        scores, calls = scores_of(probe, tape, output, copies, probability=probability, first=first)
    attention, nodes = read_off(probe, tape, calls, copies, leaves) if graph is not None and start is None else ([], {})
    nodes |= {("input", 0): nodes["x", 0]} if ("x", 0) in nodes else {}
    nodes |= {("input", 0): Node(explained, same)} if explained is not None else {}
    logits = None if probe.chosen.indices is None else logits_of(output)
    return Run(scores, attention, nodes, probe.missing_blocks, logits)


def changes_graph(rules: TorchFunctionMode | None, edits: Mapping[Place, Edit] | None) -> bool:
    """Whether something inside a block is changed: not by a mode that `modifies` nothing, nor between blocks."""
    modified = rules is not None and getattr(rules, "modifies", True)
    return modified or any(name == "Z" for name, _ in edits or {})


@contextlib.contextmanager
def computed_once(needed: bool) -> Iterator[None]:
    """Refuse gradient checkpoints, which would compute again without a change, and give another gradient or none."""
    reason = "this method changes what gradient checkpoints compute again; turn gradient checkpointing off"
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks(reason) if needed else contextlib.nullcontext():
            yield
    except RuntimeError as error:
        if str(error) != reason:
            raise
        raise BadModel(reason) from None


def scores_of(
    probe: "Probe", tape: Tape, output: Any, copies: int, *, probability: bool, first: bool
) -> tuple[Tensor, list[Call]]:
    """The scores of an output, and the attentions of its pass; it may be the probe's first."""
    if first and probe.is_new:
        check_followed(probe.net, tape)
        found = read(output, probe.target, probe.batch)
        calls = tape.close()
        if probe.adopt(First.of(tape, probe.target, found, calls, None)):
            return found.values, calls
    else:
        calls = tape.close()
    return (probe.chosen.probabilities if probability else probe.chosen.scores)(output, copies), calls


def attentions_before(probe: "Probe", start: Place | None) -> int:
    """How many attentions are not computed in a pass that starts at this place."""
    if start is None:
        return 0
    name, block = start
    number: int = probe.blocks[probe.residual[block] if block < 0 else block]
    return number if name in ("x", "features") else number + 1


def check_restart(probe: "Probe", start: Place) -> None:
    """Refuse a place from which the model does not give its scores again: something else goes past it."""
    known = RESTARTS.setdefault(probe.net, {})
    key = (signature(probe.inputs), probe.batch, number_of(probe, start))
    if key not in known:
        known[key] = True  # for the pass that follows
        name, block = start
        x = probe.plain.value(name, probe.residual[block] if block < 0 else block)
        change = (run(probe, edits={start: lambda _: x}, start=start, graph=False).scores - probe.scores).abs().max()
        known[key] = bool(change <= torch.finfo(probe.scores.dtype).eps ** 0.5 * probe.scores.abs().max())
    if not known[key]:
        raise NoBlocks(
            f"{type(probe.net).__name__}, computed from the {start[0]!r} of block {start[1]} on, does not give its "
            "scores again: something else goes past that block; this method needs a single stream of tokens"
        )


def floating_leaves(inputs: Inputs) -> list[Tensor]:
    """The inputs that may have a gradient."""
    return [x for x in tensors(inputs) if x.is_floating_point()]


@torch.enable_grad()
def differentiable(x: Tensor) -> Tensor:
    """A copy of an input, which gets a gradient; a model may write to the copy, as it may not to a leaf."""
    return x.requires_grad_().clone()


def edited_leaves(inputs: Inputs, edits: Mapping[int, Edit]) -> Inputs:
    """The inputs, those changed that are themselves the tokens of a block: numbers below 0."""
    changed = {id(x): edits[-1 - i](x).clone() for i, x in enumerate(floating_leaves(inputs)) if -1 - i in edits}
    return mapped(lambda x: changed.get(id(x), x), inputs)


def at_once(probe: "Probe", graph: bool = False) -> int:
    """How many repeats of the batch one pass may take within the memory budget; a callable target is given one."""
    if probe.chosen.indices is None:
        return 1
    results, largest = RESULTS + (SAVED * len(probe.calls) if graph else 0), max(1, probe.anatomy.largest)
    limit = min(BUDGET // results, HEAP - 1) if probe.scores.device.type == "cpu" else ON_DEVICES // results
    return max(1, limit // largest)


def micro_batches(probe: "Probe", count: int, graph: bool = False) -> Iterator[range]:
    """The numbers 0 ... count - 1 in ranges of as many repeats of the batch as the memory budget allows."""
    size = at_once(probe, graph)
    for start in track(range(0, count, size), "forward passes"):
        yield range(start, min(start + size, count))


def number_of(probe: "Probe", place: Place) -> int:
    """The number of the tensor at a place. Raises NoBlocks."""
    name, block = place
    block = probe.residual[block] if block < 0 else block
    if block not in probe.residual:
        raise NoBlocks(probe.missing_blocks)
    if name != "out":
        return int(getattr(probe.anatomy.blocks[probe.blocks[block]], name))
    if block != probe.residual[-1]:
        return number_of(probe, ("x", probe.residual[probe.residual.index(block) + 1]))
    assert probe.anatomy.end is not None
    return probe.anatomy.end


def numbered(probe: "Probe", edits: Mapping[Place, Edit], batch: int) -> dict[int, Edit]:
    """Edits of (B, N, C) by the number of the tensor, as edits of what the model made."""

    def edited(edit: Edit, raw: Tensor, *, name: str, count: int) -> Tensor:
        view = tokens_in(raw.shape, batch, count, name in probe.anatomy.tokens_first)
        if view is None:
            raise NoBlocks(f"expected the tokens of a block as ({batch}, {count}, C), got {tuple(raw.shape)}")
        return view.back(edit(view.read(raw)).to(raw.dtype))

    found: dict[int, Edit] = {}
    for (name, block), edit in edits.items():
        count = probe.attention[probe.residual[block] if block < 0 else block].shape[2]
        found[number_of(probe, (name, block))] = partial(edited, edit, name=name, count=count)
    return found


def read_off(
    probe: "Probe", tape: Tape, calls: list[Call], copies: int, leaves: list[Tensor]
) -> tuple[list[Attention], dict[Place, Node]]:
    """The attentions over the tokens explained, and every place, of a pass that computed all."""
    if len(calls) != len(probe.calls):
        raise NoAttention(f"the model took {len(probe.calls)} attentions in its first pass and {len(calls)} now")
    found = [aligned(calls[number], copies * probe.batch) for number in probe.blocks]
    attention = [a for a in found if a is not None]
    return attention, nodes_of(probe, tape, attention, copies * probe.batch, leaves)


def nodes_of(
    probe: "Probe", tape: Tape, attention: list[Attention], batch: int, leaves: list[Tensor]
) -> dict[Place, Node]:
    """Every place of a run."""
    nodes: dict[Place, Node] = {}
    first = probe.anatomy.tokens_first
    kept = {**tape.kept, **{-1 - i: x for i, x in enumerate(leaves)}}
    for block, (number, a) in enumerate(zip(probe.blocks, attention, strict=True)):
        for name, raw in (("q", tape.q[number]), ("v", tape.v[number]), ("Z", tape.Z[number])):
            nodes[name, block] = Node(raw, heads_in(raw, batch, a.shape[1]).read)
        for name in PLACES if block in probe.followed else ():
            raw_tokens = kept.get(number_of(probe, (name, block)))
            if (
                raw_tokens is not None
                and (view := tokens_in(raw_tokens.shape, batch, a.shape[2], name in first)) is not None
            ):
                nodes[name, block] = Node(raw_tokens, view.read)
    return nodes
