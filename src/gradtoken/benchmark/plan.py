"""What a run computes: samples by methods under one protocol, and the fingerprint of all that changes a number."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from gradtoken.benchmark.short import Room
from gradtoken.data.sample import DataSet
from gradtoken.errors import BadData, BadTarget, UnknownName
from gradtoken.methods import METHODS
from gradtoken.models.grouped import grouped
from gradtoken.models.model import Model
from gradtoken.protocols.protocol import Protocol
from gradtoken.provenance import versions

UNIT = 32  # samples; a crash costs one unit of one run, and a unit has one file for each method


@dataclass(frozen=True)
class Variant:
    """One method with its options: a column of the result."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`gradtoken propagation=none`."""
        return " ".join([self.method, *(f"{name}={value}" for name, value in sorted(self.options.items()))])

    @property
    def key(self) -> str:
        """A folder's name: the same for the same method and options, in any order."""
        text = json.dumps([self.method, dict(self.options)], sort_keys=True, default=str)
        return f"{self.method}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Units:
    """Ranges of sample numbers, made when they are asked for; they depend on nothing but the number of samples."""

    samples: int
    size: int

    def __len__(self) -> int:
        return -(-self.samples // self.size)

    def __getitem__(self, number: int) -> range:
        start = range(0, self.samples, self.size)[number]
        return range(start, min(start + self.size, self.samples))

    def __iter__(self) -> Iterator[range]:
        return (self[number] for number in range(len(self)))


@dataclass(frozen=True, eq=False)
class Plan:
    """batch: samples in one probe. chunk: inputs in one plain forward pass, if the memory budget allows as many; see
    `passes.at_once`. unit: samples in one file. room: what was found to fit where these did not.
    """

    protocol: Protocol
    data: DataSet
    model: Model
    variants: tuple[Variant, ...]
    batch: int = 8
    chunk: int = 64
    unit: int = UNIT
    room: Room = field(default_factory=Room, init=False)

    def __post_init__(self) -> None:
        if not len(self.data):
            raise BadData(f"{self.data.name} has no samples")
        if min(self.batch, self.chunk, self.unit) < 1 or not self.variants:
            raise BadTarget("expected at least one method, and batch, chunk and unit of at least 1")
        for variant in self.variants:
            METHODS[variant.method].bind(variant.options)  # an unknown name would fail on every sample
        self.check_unique()

    def check_unique(self) -> None:
        """Rows are told apart by the names of samples and the keys of methods."""
        name, count = repeated(self.data.ids)
        if count > 1:
            raise BadData(f"{self.data.name}: {count} samples are called {name!r}; rows are told apart by these names")
        keys = Counter(variant.key for variant in self.variants)
        for variant in self.variants:
            if keys[variant.key] > 1:
                raise BadTarget(f"{variant.title} is there twice; name each method with the same options once")

    @property
    def units(self) -> Units:
        """What is computed at once, and has a file for each method."""
        return Units(len(self.data), self.unit)

    def manifest(self) -> dict[str, Any]:
        """All that changes a number but the methods, and what it was made with."""
        settings = {
            "protocol": self.protocol.describe(),
            "data": about_data(self.data),
            "model": about_model(self.model),
            "preprocessing": self.model.preprocess.describe(),
            "unit": self.unit,
        }
        stored = json.loads(json.dumps(settings))
        return {
            "fingerprint": fingerprint_of(stored),
            "settings": stored,
            "note": self.model.note,
            "versions": versions(),
        }


def planned(
    protocol: Protocol,
    data: DataSet,
    model: Model,
    methods: Sequence[str] = ("all",),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **sizes: int,
) -> Plan:
    """A plan for a data set as it is opened and a model as it is loaded. sizes: `batch`, `chunk` and `unit` of `Plan`.

    A model with other classes than the data set's is read through the groups of its classes that mean them.
    """
    own = all(group == (label,) for label, group in data.groups.items())  # the labels are the model's own classes
    if not own and (model.labels is None or len(model.labels) != len(data.classes)):
        model = grouped(model, data.classes, data.groups)
    variants = tuple(variants_of(methods, protocol, options))
    return Plan(protocol, protocol.samples(data, model), model, variants, **sizes)


def variants_of(methods: Sequence[str], protocol: Protocol, options: Mapping[str, Any] | None = None) -> list[Variant]:
    """Methods with the protocol's options for them. Raises UnknownName for options of a method that is not named."""
    names = list(METHODS) if list(methods) == ["all"] else list(dict.fromkeys(methods))
    for name in options or {}:
        if name not in names:
            raise UnknownName.among("method among those asked", name, names)
    return [Variant(name, {**protocol.options.get(name, {}), **(options or {}).get(name, {})}) for name in names]


def fingerprint_of(settings: Mapping[str, Any]) -> str:
    """Of settings as JSON gives them back."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def about_data(data: DataSet) -> dict[str, Any]:
    """What lists say of the samples; the pictures, masks and annotations themselves are not read."""
    classes = digest_of_ids([*data.classes, *map(str, sorted((c, *group) for c, group in data.groups.items()))])
    return {
        "name": data.name,
        "samples": len(data),
        "ids": digest_of_ids(data.ids),
        "lists": data.lists,
        "classes": classes,
    }


def about_model(model: Model) -> dict[str, Any]:
    """What it computes with: its numbers, and the settings of its layers, which its weights do not tell."""
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(model.net))
    return {
        "name": model.name,
        "weights": digest_of_weights(model),
        "layers": digest_of_ids([layers]),
        "dtype": str(next(model.net.parameters()).dtype),
        **({} if model.memory == "keep" else {"memory": model.memory}),
        **({"independent": True} if model.independent else {}),
    }


def digest_of_ids(ids: Iterable[str]) -> str:
    """Of the samples' names in their order, whatever characters they have: as of their list in JSON."""
    found, between = hashlib.sha256(b"["), b""
    for some in batched(ids):
        found.update(between + json.dumps(some)[1:-1].encode())
        between = b", "
    found.update(b"]")
    return found.hexdigest()[:16]


def batched(ids: Iterable[str], size: int = 4096) -> Iterator[list[str]]:
    """Names in lists that are not long."""
    left = iter(ids)
    while some := list(islice(left, size)):
        yield some


def repeated(ids: Sequence[str]) -> tuple[str, int]:
    """The most frequent name, and how often it is there. Eight bytes a name are kept unless hashes collide."""
    hashes = np.fromiter((hash(name) for name in ids), np.int64, len(ids))
    values, counts = np.unique(hashes, return_counts=True)
    if counts.max() == 1:
        return ids[0], 1
    suspects = set(values[counts > 1].tolist())
    return Counter(name for name in ids if hash(name) in suspects).most_common(1)[0]


def digest_of_weights(model: Model) -> str:
    """Of every parameter and buffer, bit by bit."""
    found = hashlib.sha256()
    buffers = dict(model.net.named_buffers())  # those too that no file holds, such as the members of groups
    for name, value in sorted((buffers | model.net.state_dict()).items()):
        found.update(name.encode())
        found.update(value.detach().contiguous().cpu().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:16]
