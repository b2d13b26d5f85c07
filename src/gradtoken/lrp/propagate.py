"""Relevance propagation for any model: every operation is looked up in one table, and unknown ones are refused.

A preset is a dictionary from operations to rules. A rule is called as `rule(op, *args, **kwargs)` and returns what the
operation would, with another backward pass. There are two kinds of presets. Under one, gradients are modified, and
relevance is activation times gradient. Under the other, what arrives at a tensor in the backward pass is its relevance
itself; automatic differentiation is then only what walks the graph and adds shares up.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils.weak import WeakIdKeyDictionary

from gradtoken.errors import NoRule
from gradtoken.lrp.names import ELEMENTWISE, GETITEM, LINEAR, PRODUCTS, Op
from gradtoken.operations import OUT_OF_PLACE

Rule = Callable[..., Any]


class Open(NamedTuple):
    """A row whose operation is written with others, each with a row of its own."""

    body: Callable[..., Any]


class Nested(NamedTuple):
    """A row whose rule runs other operations under the rules itself: called as rule(rules, *args, **kwargs)."""

    rule: Callable[..., Any]


Row = Rule | Open | Nested
Preset = Mapping[Op, Row]


def instead(rule: Rule, f: Callable[..., Tensor]) -> Rule:
    """The rule with f in place of the operation, whatever its name is."""
    return lambda _op, *args, **kwargs: rule(f, *args, **kwargs)


def plain(op: Op, *args: Any, **kwargs: Any) -> Any:
    """Ordinary gradient; relevance passes a change of shape as a gradient does."""
    return op(*args, **kwargs)


def branch(x: Tensor) -> Tensor:
    """The operation of being read more than once; its row is a rule for the relevance of x: (R, x) -> R."""
    return x


class Rules(TorchFunctionMode):
    """Run a model under a preset: `with Rules(LIBRA): y = net(x)`, then differentiate y.

    Operations without a floating operand that depends on the explained input (shapes, masks, weights) are left alone.
    Weights may require gradients; only those of products are then cut off. Raises NoRule.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.weights: MutableMapping[Any, bool] = WeakIdKeyDictionary()  # made of parameters alone
        self.reads: MutableMapping[Any, int] = WeakIdKeyDictionary()  # how many operations read a tensor
        self.ports: MutableMapping[Any, dict[Op, Tensor]] = WeakIdKeyDictionary()

    def __torch_function__(self, op: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op is torch._C._set_grad_enabled:  # a model that turns gradients off for itself is not asked
            return None
        carriers = [x for x in tensors_in((*args, *kwargs.values())) if self.carries(x)]
        if not carriers:
            return self.without_relevance(op, args, kwargs)
        op, args, kwargs = outright(op, args, kwargs)
        row = self.preset.get(op)
        if row is None:
            return unknown(op, op(*args, **kwargs))
        if isinstance(row, Open):
            return self.opened(row.body, *args, **kwargs)
        if isinstance(row, Nested):
            return row.rule(self, *args, **kwargs)
        if op in PRODUCTS:
            args = tuple(map(self.constant, args))
            kwargs = {name: self.constant(x) for name, x in kwargs.items()}
        if branch in self.preset:
            return self.counted(op, row, carriers, args, kwargs)
        return row(op, *args, **kwargs)

    def carries(self, x: Tensor) -> bool:
        """Whether relevance flows through this tensor."""
        return x.requires_grad and not isinstance(x, nn.Parameter) and x not in self.weights

    def constant(self, x: Any) -> Any:
        return x.detach() if isinstance(x, Tensor) and not self.carries(x) else x

    def without_relevance(self, op: Op, args: Any, kwargs: Any) -> Any:
        trained = op is not F.embedding and any(x.requires_grad for x in tensors_in((*args, *kwargs.values())))
        out = op(*args, **kwargs)
        for x in tensors_in((out,)) if trained else ():
            self.weights[x] = True
        return out

    def opened(self, body: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What is written with other operations, each under its own rule."""
        with self:  # a mode is off inside its own handler
            return body(*args, **kwargs)

    def counted(self, op: Op, rule: Rule, carriers: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Apply a rule, and that of `branch` to what is read more than once.

        All projections of a tensor (to q, k and v) are one reader of it and branch again among themselves. All slices
        are one reader, and no branch among themselves: they share nothing.
        """
        if op in LINEAR or op in GETITEM:
            port = self.port(op, args[0])
            args, carriers = (port, *args[1:]), [port] if op in LINEAR else []
        out = rule(op, *args, **kwargs)
        for x in carriers:
            if x is not out:  # dropout and changes of type may give the tensor itself
                self.read(x)
        return out

    def read(self, x: Tensor) -> None:
        self.reads[x] = self.reads.get(x, 0) + 1
        if self.reads[x] == 2:
            rule, value = self.preset[branch], x.detach()  # a hook that held x itself would never be freed
            x.register_hook(lambda R: rule(R, value))  # type: ignore[operator, no-untyped-call]

    def port(self, op: Op, x: Tensor) -> Tensor:
        """The copy of x that all operations of a group read."""
        ports = self.ports.setdefault(x, {})
        if op not in ports:
            ports[op] = x.view_as(x)
            self.read(x)
        return ports[op]


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors among values and the lists among them."""
    for x in values:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from (y for y in x if isinstance(y, Tensor))


def outright(op: Op, args: Any, kwargs: Any) -> tuple[Op, Any, Any]:
    """The same operation with its operands first, and with a result of its own where it would be computed in place."""
    op, kwargs = OUT_OF_PLACE.get(op, op), dict(kwargs)
    args = (*args, *(kwargs.pop(name) for name in ("input", "other", "mat2") if name in kwargs))
    if op in ELEMENTWISE:
        args = tuple(False if x is True else x for x in args)
        kwargs = {name: x for name, x in kwargs.items() if name != "inplace"}
    return op, args, kwargs


def unknown(op: Op, out: Any) -> Any:
    """The result of an operation without a row, where no gradient leaves it: sizes, comparisons, detached copies."""
    if not any(x.requires_grad for x in tensors_in((out,))):
        return out
    name = resolve_name(op) or getattr(op, "__qualname__", repr(op))
    raise NoRule(
        f"no relevance rule for {name}; add a row to the preset, Rules({{**preset, {name}: rule}}), where "
        "rule(op, *args, **kwargs) returns the result with the backward pass that is wanted"
    )
