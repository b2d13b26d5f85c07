"""Which vision Transformers can be explained: builds each small, explains it, and compares with what its library says.

    python scripts/support_matrix.py --out docs/models.md

Every timm name of the families below, every image classifier of transformers, a few of torchvision and open_clip, and
models of other inputs (`support_others.py`) are built with random weights, few blocks and few channels, but with their
own picture size, patch size, prefix tokens and pooling. For each, the layout that was detected is compared with the
library's own numbers, and by a second method of its own: other patches of the picture are changed, and the tokens that
change with them are looked up. A difference is an error: the script ends with 1.
"""

import argparse
import datetime
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from support_models import NotOffered, Subject, subjects, versions

from gradtoken.align import align
from gradtoken.attribution import check_maps, to_maps
from gradtoken.errors import GradTokenError
from gradtoken.inputs import call, replaced
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from gradtoken.record import Recorder
from gradtoken.tokens import patch_box

CELLS = 6
Row = dict[str, str]


# One model -----------------------------------------------------------------------------------------------------------


def examine(subject: Subject, known: dict[str, Row]) -> Row | None:
    """What is found for one model; `result` is OK, or the refusal, or BUG and why; None where there is no such model.

    `known`: findings by structure, for reuse.
    """
    row = dict.fromkeys(("grid", "prefix", "blocks", "reads", "places"), "") | {"picture": subject.size_text}
    try:
        net = built(subject)
        key = subject.structure(net)
        if key not in known:
            known[key] = row | explained(subject, net)
        return known[key]
    except GradTokenError as error:
        known[key] = row | {"result": f"{type(error).__name__}: {str(error).split(';')[0]}"}
        return known[key]
    except NotOffered:
        return None
    except ImportError as error:
        return row | {"result": f"not built: {str(error).strip().splitlines()[0]}"}
    except Exception as error:
        return row | {"result": f"BUG {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}


def built(subject: Subject) -> nn.Module:
    """The small model; what its library cannot make so narrow counts as not built."""
    try:
        return subject.build()
    except (GradTokenError, NotOffered, ImportError):
        raise
    except Exception as error:
        raise ImportError(str(error)) from error


def explained(subject: Subject, net: nn.Module) -> Row:
    """The map is made, and everything about it compared."""
    probe = Probe(net, subject.inputs, subject.target)
    relevance = METHODS["gradtoken"].call(probe, heads="mean")
    check_maps(relevance, "gradtoken", allow_blank=False)
    shape = to_maps(probe, relevance).shape[1:]
    places = found_places(probe) if probe.layout.is_grid else None
    row = {
        "grid": " x ".join(map(str, shape)) if len(shape) == 2 else f"{shape[0]} tokens",
        "prefix": str(probe.layout.first),
        "blocks": f"{len(probe.earlier) + 1} of {len(probe.calls)}",
        "reads": reads(probe),
        "places": "" if places is None else f"{places[0]}, {places[1]}",
    }
    return row | {"result": "; ".join(faults(subject, net, probe, places)) or "OK"}


def reads(probe: Probe) -> str:
    """Which query rows of the last attention the score depends on."""
    readers, first = probe.readers[0].nonzero()[:, 0].tolist(), probe.layout.first_of(probe.last.shape[2])
    if probe.last.cross or probe.last.shape[2] < probe.last.shape[3]:
        return "query of its own" if len(readers) == 1 else f"{len(readers)} queries of its own"
    if readers and max(readers) < first:
        return {1: "class token", 2: "2 tokens"}.get(len(readers), f"{len(readers)} tokens")
    if len(readers) == 1 and probe.layout.is_grid:
        return "a token behind them"
    return "mean of the tokens" if len(readers) > 1 else "last token"


def faults(subject: Subject, net: nn.Module, probe: Probe, places: tuple[int, int] | None) -> Iterator[str]:
    """Every difference between what was detected and what the library says, or the second method finds."""
    truth, layout = subject.truth(net), probe.layout
    if truth.grids and (layout.rows, layout.columns) not in truth.grids:
        yield f"BUG: the library says grid {truth.grids}, detected {(layout.rows, layout.columns)}"
    prefix = truth.prefix if truth.prefix in (None, 0) or probe.last.shape[3] > layout.count else layout.first
    if prefix is not None and layout.first != prefix:
        yield f"BUG: the library says {truth.prefix} prefix tokens, detected {layout.first}"
    if truth.reads is not None and (truth.reads == "mean") != (reads(probe) == "mean of the tokens"):
        yield f"BUG: the library reads {truth.reads}, detected {reads(probe)}"
    if places is not None and places[0] < CELLS - 2:
        yield f"BUG: only {places[0]} of {CELLS} changed patches were found at their token"


@torch.no_grad()
def found_places(probe: Probe) -> tuple[int, int]:
    """How many of six changed patches are found at their token, or next to it: in the first block, in the last."""
    layout, picture = probe.layout, probe.picture
    assert picture is not None
    assert layout.rows is not None
    assert layout.columns is not None
    generator, grid = torch.Generator().manual_seed(3), (layout.rows, layout.columns)
    chosen = torch.randperm(layout.count, generator=generator)[:CELLS].tolist()
    changed = [picture[0]]
    for place in chosen:
        y, x = patch_box(divmod(place, grid[1]), grid, (picture.shape[2], picture.shape[3]))
        other = picture[0].clone()
        other[:, y, x] = torch.randn(other[:, y, x].shape, generator=generator)
        changed.append(other)
    keys = defaultdict(list)
    for one in changed:
        with Recorder(start=-1) as record:
            call(probe.net, replaced(probe.inputs, picture, one[None]))
        for end, number in enumerate((probe.blocks[0], probe.blocks[-1])):
            aligned = align(record.calls[number].k, 1)
            assert aligned is not None
            keys[end].append(layout.content(aligned[0].transpose(0, 1).flatten(1).T, aligned.shape[2]))
    return found(torch.stack(keys[0]), chosen, grid[1]), found(torch.stack(keys[1]), chosen, grid[1])


def found(keys: Tensor, chosen: list[int], columns: int) -> int:
    """For how many cells the token that changes most, beyond what others cause, is near. keys (1 + cells, C, tokens)"""
    change = (keys[1:] - keys[:1]).double().norm(dim=1)
    change = change / change.amax(dim=1, keepdim=True)
    others = (change.sum(dim=0) - change) / max(1, len(chosen) - 1)
    near = 0
    for place, token in zip(chosen, (change - others).argmax(dim=1).tolist(), strict=True):
        (i, j), (k, m) = divmod(place, columns), divmod(token, columns)
        near += abs(i - k) <= 1 and abs(j - m) <= 1
    return near


# The page ------------------------------------------------------------------------------------------------------------

HEAD = """# Which models can be explained

Written by `python scripts/support_matrix.py --out docs/models.md` on {date}, with {versions}.

{total} models were built with random weights, few blocks and few channels, but with their own picture size, patch size,
prefix tokens and pooling; GradToken was run on each. **{works} can be explained, {refused} are refused with a reason,
{bugs} are wrong, {missing} could not be built here.** Refused means an error that says why; no model gets a map whose
place in the picture was not checked.

Names that give the same small model share one run; there were {distinct} different ones. Left out: MaxViT-like names
for pictures over 256 pixels, all but the smallest names of a few convolutional families, and ShieldGemma 2, which needs
a text. SAM is built for 512 pixels, not 1024. The weights are random: what a trained model of a hierarchical family
shows was not examined here.

Below the models of pictures are families of other inputs, built from settings: classifiers of texts, language models
(*next words*), classifiers of sounds and films, towers of pictures and of captions, models that read a picture with a
text as `explain` calls them, and detectors. Texts are given as a padded batch.

- *input*: pixels, frequencies x frames or samples of a sound, the moments of a film one under the other, or tokens.
- *grid*: rows and columns of the map. *prefix*: tokens before the patches (class, distillation, registers).
- *blocks*: attentions whose tokens are those of the last one, of all attentions seen, in the small model.
- *reads*: the rows of the last attention that the class score depends on.
- *found*: of {cells} patches of the picture that were changed, how many showed at their own token or one next to it, in
  the first and in the last of these blocks. The first is a check; after tokens mix, random weights may blur the last.
"""

WHY = """## Why a model is refused

GradToken reads the last attention: its queries, and one key per patch. It needs that attention to be over the patches
of the picture.

- *NoAttention ... computed no attention that can be seen*: the model has none (convolutions, pooling, additive or
  linear attention, Fourier transforms, state spaces), or none made of a softmax between two matrix products (CoaT's
  factorised attention).
- *NoAttention ... the last attention works on ...*: it runs within windows, and there is more than one (SAM 2), or over
  one frame of a film at a time (TimeSformer). A picture size for which the last stage is a single window can be
  explained.
- *NoGrid ... tokens, which no grid ... fits* and *NoGrid ... tokens away from those that should be theirs*: the tokens
  are channels (DaViT, EdgeNeXt), latents (Perceiver), or patches in another order. Where convolutions or attention
  without a skip connection come before (BoTNet, LeViT), it depends on the weights whether a token still shows its
  patch; it is looked at, so trained weights may be accepted where random ones are not. (LeViT is built here with
  attention biases that prefer the same place.)
- *NoAttention ... does not reach the explained score*: the class is read off something else, such as a branch without
  attention.

An attention at the end that the score does not depend on is passed over: the unused pooling head of SigLIP's
classifier.

Attentions before the last one that are windowed, over channels, or over another number of tokens are left out of the
smoothing; *blocks* shows how many remain.

## What to know of some that work

- *CrossViT* has two branches; the map is of the branch that attends last.
- *EfficientViT-M* computes its heads one after the other; the map is of the last head, and the other heads count as
  blocks before it.
- *Differential attention* (`vit_d...`) subtracts a second map from the first; the map is of the first.
- *XCiT* attends over channels before its class attention, so nothing is smoothed.
- *Swin, PVT, LeViT, MViT and the like*: the map has the grid of the last stage, often 7 x 7.
"""


def page(rows: list[tuple[Subject, Row]], distinct: int) -> str:
    """The whole page as markdown."""
    results = [row["result"] for _, row in rows]
    missing, bugs = (sum(word in r for r in results) for word in ("not built", "BUG"))
    works = results.count("OK")
    head = HEAD.format(
        date=datetime.date.today().isoformat(),
        versions=versions(),
        total=len(rows),
        works=works,
        refused=len(rows) - works - missing - bugs,
        bugs=bugs,
        missing=missing,
        distinct=distinct,
        cells=CELLS,
    )
    parts = [head]
    for library in dict.fromkeys(subject.library for subject, _ in rows):
        parts += [f"## {library}\n", table([(s, r) for s, r in rows if s.library == library])]
    return "\n".join([*parts, WHY])


def table(rows: list[tuple[Subject, Row]]) -> str:
    """Models with the same finding share a line; their picture sizes and grids are listed."""
    groups: dict[tuple[str, ...], list[tuple[Subject, Row]]] = defaultdict(list)
    for subject, row in rows:
        groups[(subject.family, *(row[k] for k in ("prefix", "blocks", "reads", "result")))].append((subject, row))
    lines = [
        "| family | models | input | grid | prefix | blocks | reads | found | result |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (family, prefix, blocks, what, result), members in groups.items():
        lines.append(
            f"| {family} | {names([s.name for s, _ in members])} | {several(r['picture'] for _, r in members)} | "
            f"{several(r['grid'] for _, r in members)} | {prefix} | {blocks} | {what} | "
            f"{worst(r['places'] for _, r in members)} | {result.replace('|', '/')} |"
        )
    return "\n".join(lines) + "\n"


def names(every: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in every[:2])
    return shown if len(every) <= 2 else f"{len(every)}: {shown}, ..."


def several(values: Iterator[str]) -> str:
    every = list(dict.fromkeys(values))
    return ", ".join(every) if len(every) <= 4 else f"{', '.join(every[:3])}, ... ({len(every)} sizes)"


def worst(places: Iterator[str]) -> str:
    pairs = [tuple(map(int, p.split(", "))) for p in places if p]
    return f"{min(p[0] for p in pairs)}, {min(p[1] for p in pairs)} of {CELLS}" if pairs else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of models that can be explained.")
    parser.add_argument("--out", type=Path, help="the file to write; standard output if not given")
    parser.add_argument("--only", nargs="*", help="families to examine")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows: list[tuple[Subject, Row]] = []
    known: dict[str, Row] = {}
    for subject in subjects(options.only):
        start, row = time.perf_counter(), examine(subject, known)
        if row is None:
            continue
        rows.append((subject, row))
        print(f"{subject.name}: {row['result']} ({time.perf_counter() - start:.1f} s)", file=sys.stderr, flush=True)
    text = page(rows, len(known))
    if options.out:
        options.out.write_text(text)
    else:
        print(text)
    return int(any("BUG" in row["result"] for _, row in rows))


if __name__ == "__main__":
    sys.exit(main())
