"""What is known about a data set, in words."""

from gradtoken.data.entry import DATASETS, Kind
from gradtoken.data.sample import DataSet

SHOWN = 5  # names of classes


def describe(subject: DataSet | Kind | str) -> str:
    """Counts of an open data set; of its kind (or the kind, or its name) the layout, origin and licence."""
    if isinstance(subject, DataSet):
        kind = DATASETS.get(subject.name.partition("/")[0])
        return "\n".join(counts(subject) + (origin(kind) if kind else []))
    entry = DATASETS[subject] if isinstance(subject, str) else subject
    layout = [f"  {line}" for line in entry.layout.splitlines()]
    return "\n".join([f"{entry.name}: {entry.summary}", *layout, *origin(entry)])


def counts(dataset: DataSet) -> list[str]:
    """Samples, classes and how many of them an ImageNet model knows."""
    lines = [f"{dataset.name}: {len(dataset)} samples, first {dataset.ids[0]!r}"]
    if not dataset.classes:
        return [*lines, "  classes: none, nobody said what the samples show"]
    more = "; ..." if len(dataset.classes) > SHOWN else ""
    lines.append(f"  classes: {len(dataset.classes)}: {'; '.join(dataset.classes[:SHOWN])}{more}")
    if dataset.groups:
        lines.append(f"  {len(dataset.groups)} of them are matched with classes of an ImageNet model")
    elif dataset.name.startswith(("imagenet/", "csv/")):
        lines.append("  labels are taken as the model's own numbers")
    return lines


def origin(entry: Kind) -> list[str]:
    return [f"  from: {entry.where}", f"  licence: {entry.licence}"]
