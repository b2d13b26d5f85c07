"""Classes of another data set from a network's own: each is a group of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradtoken.errors import BadModel, UnknownName
from gradtoken.models.labels import Labels
from gradtoken.models.load import classes_of, count_of
from gradtoken.models.model import Model
from gradtoken.targets import logits_of

Groups = Mapping[int, Sequence[int]] | Sequence[Sequence[int]]
POOLS = ("max", "logsumexp")

VOC_IMAGENET: dict[str, dict[str, int | range]] = {
    "aeroplane": {"airliner": 404, "warplane": 895},
    "bicycle": {"bicycle-built-for-two": 444, "mountain bike": 671, "tricycle": 870, "unicycle": 880},
    "bird": {
        "cock ... great grey owl": range(7, 25),
        "black grouse ... black swan": range(80, 101),
        "white stork ... albatross": range(127, 147),
    },
    "boat": {
        **{"aircraft carrier": 403, "canoe": 472, "catamaran": 484, "container ship": 510, "fireboat": 554},
        **{"gondola": 576, "lifeboat": 625, "liner": 628, "pirate": 724, "schooner": 780, "speedboat": 814},
        **{"trimaran": 871, "yawl": 914},
    },
    "bottle": {"beer bottle": 440, "pill bottle": 720, "pop bottle": 737, "water bottle": 898, "wine bottle": 907},
    "bus": {"minibus": 654, "school bus": 779, "trolleybus": 874},
    "car": {
        **{"beach wagon": 436, "cab": 468, "convertible": 511, "jeep": 609, "limousine": 627, "minivan": 656},
        **{"Model T": 661, "racer": 751, "sports car": 817},
    },
    "cat": {"tabby ... Egyptian cat": range(281, 286)},
    "chair": {"barber chair": 423, "folding chair": 559, "rocking chair": 765, "throne": 857},
    "cow": {"ox": 345, "water buffalo": 346},
    "diningtable": {"dining table": 532},
    "dog": {"Chihuahua ... Mexican hairless": range(151, 269)},
    "horse": {"sorrel": 339},
    "motorbike": {"moped": 665, "motor scooter": 670},
    "person": {"ballplayer": 981, "groom": 982, "scuba diver": 983},
    "pottedplant": {"pot": 738},
    "sheep": {"ram": 348, "bighorn": 349},
    "sofa": {"studio couch": 831},
    "train": {
        **{"bullet train": 466, "electric locomotive": 547, "freight car": 565, "passenger car": 705},
        **{"steam locomotive": 820},
    },
    "tvmonitor": {"monitor": 664, "screen": 782, "television": 851},
}
"""The classes of PASCAL VOC, in its order, as ImageNet-1k classes by name: those that VOC's annotation guidelines count
as the class (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/guidelines.html). docs/voc.md has the decisions.
"""

VOC_GROUPS: dict[int, tuple[int, ...]] = {
    number: tuple(c for part in parts.values() for c in ([part] if isinstance(part, int) else part))
    for number, parts in enumerate(VOC_IMAGENET.values())
}


class Grouped(nn.Module):
    """One logit for each group g of the network's classes: max of l_c, or log sum exp l_c, over c in g. (B, G)

    Which class is the largest, and in the sum the weights p_c = softmax of l over g, are read outside the graph: the
    gradient is that of the group's logit, log sum exp l = p . l + H(p), and relevance rules see a selection, or a sum
    with constant weights. Under log sum exp a softmax over the groups is one over all their classes.
    """

    members: Tensor
    inside: Tensor

    def __init__(self, net: nn.Module, groups: Groups, pool: Literal["max", "logsumexp"] = "max") -> None:
        super().__init__()
        if pool not in POOLS:
            raise UnknownName.among("pool of a group", pool, POOLS)
        found = checked(groups, (), classes_of(net))
        longest = max(map(len, found))
        members = torch.tensor([[*group, *group[:1] * (longest - len(group))] for group in found])
        inside = torch.arange(longest) < torch.tensor([[len(group)] for group in found])
        weight = next(net.parameters(), members)
        self.net, self.pool, self.num_classes, self.highest = net, pool, len(found), max(map(max, found))
        self.register_buffer("members", members.to(weight.device), persistent=False)
        self.register_buffer("inside", inside.to(weight.device), persistent=False)

    def extra_repr(self) -> str:
        return f"pool={self.pool!r}"

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        logits = logits_of(self.net(*args, **kwargs))
        within(self.highest, logits.shape[1])
        return self.largest(logits) if self.pool == "max" else self.summed(logits)

    def largest(self, logits: Tensor) -> Tensor:
        """The logit of the strongest class, the first of equals. (B, classes) -> (B, G)"""
        with torch._C.DisableTorchFunction():
            winners = logits.detach()[:, self.members].argmax(dim=2)  # (B, G); members fill up with their first
        return logits.gather(1, self.members.gather(1, winners.mT).mT)

    def summed(self, logits: Tensor) -> Tensor:
        """Log sum exp. (B, classes) -> (B, G)"""
        with torch._C.DisableTorchFunction():  # constants, whose making no relevance rule need know
            p = logits.detach()[:, self.members].masked_fill(~self.inside, -torch.inf).softmax(dim=2)
            entropy = torch.special.entr(p).sum(dim=2)
        total: Tensor = (logits[:, self.members] * p).sum(dim=2) + entropy
        return total


def grouped(model: Model, names: Sequence[str], groups: Groups, pool: Literal["max", "logsumexp"] = "max") -> Model:
    """The model with groups of its classes as classes, called `names`.

    groups: for each name the classes of the model that mean it; they may overlap.
    Raises BadModel for a name without classes, and for classes that the model does not have.
    """
    found = checked(groups, names, count_of(model))
    source = f"{model.source}, its classes in {len(found)} groups ({pool})"
    return replace(model, net=Grouped(model.net, found, pool), labels=Labels.of(names), source=source)


def checked(groups: Groups, names: Sequence[str], count: int | None) -> list[tuple[int, ...]]:
    """The groups in order, if each has classes and there is one for each name; `count` classes exist, if known."""
    by_number = groups if isinstance(groups, Mapping) else dict(enumerate(groups))
    if not by_number or (names and len(names) != len(by_number)):
        lacking = [name for number, name in enumerate(names) if number not in by_number]
        raise BadModel(f"expected a group of classes for each of {len(names)} names, none for {lacking[:5]}")
    if sorted(by_number) != list(range(len(by_number))):
        raise BadModel(f"expected groups for 0 to {len(by_number) - 1}, got the numbers {sorted(by_number)[:10]}")
    found = [tuple(map(int, by_number[number])) for number in range(len(by_number))]
    for number, group in enumerate(found):
        name = names[number] if names else f"group {number}"
        if not group:
            raise BadModel(f"{name}: no class of the model belongs to it; leave the name out, or give it classes")
        if len(set(group)) < len(group):
            raise BadModel(f"{name}: expected each class once, got {group}")
        if min(group) < 0:
            raise BadModel(f"{name}: expected class indices from 0, got {min(group)}")
        within(max(group), count, name)
    return found


def within(highest: int, count: int | None, name: str = "groups") -> None:
    """Refuse classes that a model does not have."""
    if count is not None and highest >= count:
        raise BadModel(
            f"{name}: expected classes from 0 to {count - 1} of the model, got {highest}; the groups are of another "
            "set of classes than the model's"
        )
