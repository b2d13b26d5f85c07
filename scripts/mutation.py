"""Mutation check of the core: each small change of its code should make a test fail.

    python scripts/mutation.py                           every file; hours
    python scripts/mutation.py attention.py --most 40    40 mutants of one file, spread evenly

Mutants are cosmic-ray's. Each runs in a forked child, which imports the changed text in place of the file: nothing is
written, and libraries are imported once. A mutant is killed when a test fails, or when the tests take ten times the
processor time that they take on the file as it is.
"""

import argparse
import contextlib
import difflib
import importlib
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gradtoken"
LIBRARIES = ("torch", "numpy", "PIL", "pytest", "timm", "transformers", "captum.attr", "scipy.ndimage")
METHODS = ["tests/methods/test_gradtoken.py", "tests/methods/test_attention_and_gradients.py"]
RELEVANCE = ["tests/lrp/test_methods.py", "tests/lrp/test_against_reference.py"]
TESTS: dict[str, list[str]] = {  # of a file below src/gradtoken, quickest to fail first
    "attention.py": [*METHODS, "tests/test_memory.py"],
    "probe.py": [*METHODS, "tests/methods/test_score_gradient.py", "tests/test_passes.py", "tests/test_hostile.py"],
    "tokens.py": ["tests/test_looking.py", "tests/test_tokens.py"],
    "readout.py": [*METHODS, "tests/methods/test_attention_family.py", "tests/models/test_language.py"],
    "lrp/relevance.py": ["tests/lrp/test_sums.py", "tests/lrp/test_relevance.py", *RELEVANCE],
    "lrp/modified.py": ["tests/lrp/test_modified.py", *RELEVANCE],
    "lrp/absolute.py": ["tests/lrp/test_sums.py", "tests/lrp/test_absolute.py", *RELEVANCE],
    "lrp/attention.py": ["tests/lrp/test_attention.py", "tests/lrp/test_presets.py", *RELEVANCE],
    "lrp/presets.py": ["tests/lrp/test_presets.py", "tests/lrp/test_propagate.py", *RELEVANCE],
    "lrp/propagate.py": ["tests/lrp/test_propagate.py", *RELEVANCE],
    "lrp/norms.py": ["tests/lrp/test_modified.py", "tests/lrp/test_relevance.py", *RELEVANCE],
    "metrics/confidence.py": ["tests/metrics/test_perturbation.py", "tests/metrics/test_curves.py"],
    "metrics/curves.py": ["tests/metrics/test_curves.py", "tests/metrics/test_perturbation.py"],
    "metrics/localisation.py": ["tests/metrics/test_localisation.py"],
    "metrics/maps.py": ["tests/metrics/test_maps.py", "tests/metrics/test_segmentation.py"],
    "metrics/mosaic.py": ["tests/metrics/test_localisation.py"],
    "metrics/perturbation.py": ["tests/metrics/test_perturbation.py"],
    "metrics/sanity.py": ["tests/metrics/test_sanity.py"],
    "metrics/segmentation.py": ["tests/metrics/test_segmentation.py"],
    "metrics/thresholds.py": ["tests/metrics/test_maps.py"],
    "metrics/words.py": ["tests/metrics/test_words.py"],
}
BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Div", "Pow_Mul", "Mod_Mul", "BitAnd_BitOr")
COMPARED = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_GtE", "Gt_LtE", "Is_IsNot", "IsNot_Is")
WORDS = ("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd")
OPERATORS = [
    *(f"core/ReplaceBinaryOperator_{name}" for name in BINARY),
    *(f"core/ReplaceComparisonOperator_{name}" for name in COMPARED),
    *(f"core/ReplaceUnaryOperator_{name}" for name in ("Delete_USub", "Delete_Not", "Delete_Invert")),
    *(f"core/{name}" for name in (*WORDS, "NumberReplacer", "ZeroIterationForLoop")),
]


@dataclass(frozen=True)
class Mutant(MetaPathFinder):
    """Another text of one module. `loader` is asked for it wherever the module is imported."""

    module: str
    path: Path
    text: str

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=Loader(self)) if name == self.module else None


class Loader(SourceFileLoader):
    """Compiles the text of a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(mutant.path))
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.mutant.text, str(self.mutant.path), "exec")


def mutants(path: Path) -> Iterator[Mutant]:
    """All changes of a file, one at a time, that are still Python."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    text = path.read_text(encoding="utf-8")
    module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for name in OPERATORS:
        number = 0
        while (changed := mutate_code(text, get_operator(name)(), number)) is not None:
            number += 1
            with contextlib.suppress(SyntaxError):
                compile(changed, str(path), "exec")
                yield Mutant(module, path, changed)


def passes(mutant: Mutant, tests: Sequence[str], seconds: float) -> tuple[bool, float]:
    """Whether the tests pass on a mutant, and the processor time that they took, in a child that is left to nobody."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
        sys.meta_path.insert(0, mutant)
        import pytest

        os._exit(pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))
    _, status, used = os.wait4(child, 0)
    return status == 0, used.ru_utime + used.ru_stime


def warmed() -> None:
    """Import what tests import, but nothing of ours."""
    sys.path[:0] = [str(SOURCE.parent), str(ROOT)]
    from gradtoken.models._torchvision import ensure_torchvision

    ensure_torchvision()
    for name in LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "gradtoken"]:
        del sys.modules[name]


def changed_lines(mutant: Mutant) -> str:
    """The line as it was and as it is."""
    lines = difflib.unified_diff(mutant.path.read_text().splitlines(), mutant.text.splitlines(), n=0, lineterm="")
    return " -> ".join(line[1:].strip() for line in list(lines)[2:] if not line.startswith("@@"))


def check(name: str, most: int | None) -> tuple[int, int]:
    """Print the survivors of a file; how many mutants were killed, of how many."""
    path = SOURCE / name
    fine, seconds = passes(Mutant("none", path, ""), TESTS[name], 3600)
    if not fine:
        raise SystemExit(f"the tests of {name} fail on the file as it is: {' '.join(TESTS[name])}")
    every = list(mutants(path))
    some = every if most is None else every[:: max(1, -(-len(every) // most))]
    survivors = [mutant for mutant in some if passes(mutant, TESTS[name], 10 * seconds)[0]]
    killed = len(some) - len(survivors)
    print(f"{name}: {killed} of {len(some)} killed ({100 * killed / max(len(some), 1):.0f} %), {len(every)} in all")
    for mutant in survivors:
        print(f"    {changed_lines(mutant)}")
    sys.stdout.flush()
    return killed, len(some)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", default=list(TESTS), help="below src/gradtoken")
    parser.add_argument("--most", type=int, help="mutants of each file")
    given = parser.parse_args()
    warmed()
    os.chdir(ROOT)
    killed, total = (sum(counts) for counts in zip(*(check(name, given.most) for name in given.files), strict=True))
    print(f"all: {killed} of {total} killed ({100 * killed / max(total, 1):.0f} %)")


if __name__ == "__main__":
    main()
