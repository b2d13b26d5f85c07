"""The list of all data sets that can be read, from the registry.

    python scripts/data_doc.py

writes docs/data.md.
"""

import inspect
from pathlib import Path

from gradtoken.data import DATASETS, Kind

PAGE = Path(__file__).parent.parent / "docs" / "data.md"
HEAD = """# Data sets

Written by `python scripts/data_doc.py` from the registry; change the data sets, not this page. Nothing is downloaded:
get a data set from its source, accept its terms, and name its folder.

```python
from gradtoken.data import check, describe, open_data

data = open_data("photos")  # the kind is seen from the layout; open_data("VOCdevkit", split="val") sees voc2012
print(describe(data))
sample = data[0]  # opens one picture; sample.input, .labels, .truth
for problem in check(data, threads=4):  # reads everything once
    print(problem.kind, problem.id, problem.reason)
```

Opening a data set reads lists and the names in folders; a picture is opened when its sample is asked for, and nothing
is kept. What is wrong with the whole is told when it is opened (`BadData`), what is wrong with one sample when it is
read (`BadSample`, with its id). `check` also warns of samples that some metrics have no answer for: a mask of
background alone, a text without a marked word, a picture of one pixel.

- Masks: 0 is background, c + 1 class c, -1 pixels that count for nothing. A mask has the size of its picture.
- Boxes: of the labelled class, as fractions of width and height.
- Labels of `imagenet`, and class_index in a table, are the model's own numbers. Where the classes are others, `groups`
  holds for each class the classes of an ImageNet model that mean it.
- ImageNet, ImageNet-S and VOC are read without the turn that EXIF asks for, as is common, since boxes and masks fit the
  pixels as stored; your own pictures are turned upright.
"""


def document() -> str:
    """The page."""
    rows = ["| kind | what | from | licence |", "|---|---|---|---|", *map(row, DATASETS.values())]
    return "\n".join([HEAD, *rows, *map(section, DATASETS.values())]) + "\n"


def row(kind: Kind) -> str:
    """One line of the table."""
    return f"| [`{kind.name}`](#{kind.name}) | {kind.summary} | {kind.where} | {kind.licence} |"


def section(kind: Kind) -> str:
    """The layout and the options of one kind."""
    parameters = [p for p in inspect.signature(kind.open).parameters.values() if p.kind is p.KEYWORD_ONLY]
    options = ", ".join(f"`{p.name}={p.default!r}`" for p in parameters) or "none"
    said = "\n".join((inspect.getdoc(kind.open) or "").splitlines())
    return f"\n## {kind.name}\n\n{said}\n\nOptions: {options}.\n\n```text\n{kind.layout}\n```"


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
