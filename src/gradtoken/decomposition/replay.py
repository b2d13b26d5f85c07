"""A recorded forward pass made again, with the parts of every tensor that the goal is made of."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.overrides import resolve_name

from gradtoken.attention import working_dtype
from gradtoken.decomposition.journal import Journal, Step
from gradtoken.decomposition.parts import of_tokens, shared
from gradtoken.decomposition.rules import ATTENTION, LINEAR, RULES, Rule, each, unchanged
from gradtoken.errors import BadModel, NoRule
from gradtoken.operations import PRODUCTS

Ends = Callable[[Step], tuple[list[Tensor], list[Tensor]]]  # which tensors of a step are nearer, and which are beyond
Sources = Callable[[Tensor], Tensor]  # the parts of the first block's tokens
BUDGET = 4 * 2**30  # bytes that the parts of one tensor may take


def decompose(journal: Journal, goal: Tensor, sources: Sources = of_tokens) -> Tensor:
    """The share of each source token in a tensor that the journal recorded. (J, *goal.shape), which sum to the goal"""
    if journal.source is None or id(goal) not in journal.known:
        raise NoRule(
            "no operation that has parts was seen to make the explained score of the first block's tokens: explain a "
            "logit before any softmax, and give the model tokens that it embeds itself"
        )
    for _, parts in replay(journal, goal, sources):  # noqa: B007
        pass
    return shared(parts)[:-1]


@torch.no_grad()
def replay(journal: Journal, goal: Tensor, sources: Sources = of_tokens) -> Iterator[tuple[Tensor, Tensor]]:
    """Every tensor that the goal is made of, with its parts, in the order of the model."""
    assert journal.source is not None
    steps = needed(journal.steps, goal)
    check(journal.source, steps)
    deferred = projections(steps)
    last = {id(x): number for number, step in enumerate(steps) for x in values(step)} | {id(goal): len(steps)}
    source = journal.source
    parts = {id(source): sources(source.to(working_dtype(source)))}
    yield source, parts[id(source)]
    for number, step in enumerate(steps):
        made = rule(step)(step, partial(taken, {id(x): parts[id(x)] for x in values(step)}))
        for x in values(step):
            if last[id(x)] == number:
                parts.pop(id(x), None)
        for value, p in zip(step.made, made if isinstance(made, tuple | list) else (made,), strict=True):
            if id(value) in last:
                parts[id(value)] = p if step.op not in LINEAR or id(value) in deferred else shared(p)
                yield value, parts[id(value)]


# Which steps count, and where biases are shared out -------------------------------------------------------------------


def values(step: Step) -> list[Tensor]:
    """The operands whose parts a step needs: of a fused attention, v alone."""
    if step.op not in ATTENTION:
        return step.read
    value = step.argument(2, "value")
    return [x for x in step.read if x is value]


def needed(steps: list[Step], goal: Tensor) -> list[Step]:
    """The steps that the parts of the goal are made by; queries and keys are not among them."""
    wanted, found = {id(goal)}, []
    for step in reversed(steps):
        if any(id(x) in wanted for x in step.made):
            wanted.update(map(id, values(step)))
            found.append(step)
    return found[::-1]


def projections(steps: list[Step]) -> set[int]:
    """Results of the projections to the values of an attention and from its result, by identity.

    Their biases are shared out together, after the residual sum. In the first attention every value is its own source,
    with its bias.
    """
    attentions = [step for step in steps if attends(step)]
    made = {id(x) for step in attentions for x in step.made}
    heads = {id(x) for step in attentions[1:] for x in values(step)}
    found = first_linear(steps, made, lambda step: (step.read, step.made))
    return found | first_linear(steps[::-1], heads, lambda step: (step.made, step.read))


def first_linear(steps: list[Step], tensors: set[int], ends: Ends) -> set[int]:
    """Results of the first linear steps that are met from some tensors on, through changes of shape."""
    marked, found = set(tensors), set[int]()
    for step in steps:
        here, there = ends(step)
        if any(id(x) in marked for x in here):
            if step.op in LINEAR:
                found.update(map(id, step.made))
            elif RULES.get(step.op) in (each, unchanged):
                marked.update(map(id, there))
    return found


def attends(step: Step) -> bool:
    """Whether a step multiplies tokens by a constant matrix from the left."""
    return step.op in ATTENTION or (step.op in PRODUCTS and [id(x) for x in step.read] == [id(step.args[1])])


def check(source: Tensor, steps: list[Step]) -> None:
    """Refuse what would not fit into memory."""
    J, largest = source.shape[1] + 1, max((x.numel() for step in steps for x in step.made), default=0)
    size = J * largest * working_dtype(source).itemsize
    if size > BUDGET:
        raise BadModel(
            f"the parts of {J - 1} tokens would take {size / 2**30:.1f} GiB for one tensor of {largest} numbers, and "
            f"several are needed at once; the limit is {BUDGET / 2**30:.0f} GiB: take a smaller picture, a shorter "
            "text or a smaller model"
        )


def taken(parts: dict[int, Tensor], x: Tensor) -> Tensor:
    return parts[id(x)]


def rule(step: Step) -> Rule:
    """The row of the table. Raises NoRule."""
    if step.op not in RULES:
        name = resolve_name(step.op) or step.op.__name__
        shapes = ", ".join(str(tuple(x.shape)) for x in step.read)
        raise NoRule(
            f"{name} of {shapes} has no rule that says what it makes of the parts of vectors; add one with "
            f"gradtoken.decomposition.rules.RULES[{name}] = rule, or take a method that needs none"
        )
    return RULES[step.op]
