"""A run's folder: a manifest, and one file for each unit and method, which is whole or absent."""

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradtoken.benchmark.plan import Plan, Variant, fingerprint_of
from gradtoken.benchmark.rows import Row, read, write
from gradtoken.errors import BadRun, GradTokenError

MANIFEST, DESCRIPTION = "manifest.json", "variant.json"


@dataclass(frozen=True)
class RunFolder:
    """root/manifest.json, root/rows/METHOD-KEY/variant.json and root/rows/METHOD-KEY/FIRST.parquet."""

    root: Path
    manifest: dict[str, Any]

    @classmethod
    def begin(cls, root: Path, plan: Plan) -> "RunFolder":
        """A new run, or the same one again. Raises BadRun for a folder that holds another."""
        manifest = plan.manifest()
        try:
            (root / "rows").mkdir(parents=True, exist_ok=True)
            if not (root / MANIFEST).exists():
                replace_text(root / MANIFEST, json.dumps(manifest, indent=1))
            known = cls.open(root)
            known.check_same(manifest)
            for variant in plan.variants:
                describe(known.path(variant, plan.units[0]).parent, variant)
        except OSError as error:
            raise BadRun(f"the run folder {root} cannot be written: {error.strerror}") from error
        return known

    def check_same(self, manifest: dict[str, Any]) -> None:
        """Raises BadRun for the manifest of another run."""
        if self.manifest["fingerprint"] != manifest["fingerprint"]:
            changed = differing(self.manifest["settings"], manifest["settings"])
            if "protocol.name" in changed:  # whose other settings then say nothing more
                changed = ["protocol", *(name for name in changed if not name.startswith("protocol."))]
            raise BadRun(f"{self.root} holds another run, with other {', '.join(changed)}; name another folder")

    @classmethod
    def open(cls, root: Path) -> "RunFolder":
        """A run that was begun."""
        try:
            manifest = json.loads((root / MANIFEST).read_text())
            if manifest["fingerprint"] != fingerprint_of(manifest["settings"]):
                raise ValueError("its fingerprint is not that of its settings")
        except FileNotFoundError as error:
            raise BadRun(f"{root} is not a run: it has no {MANIFEST}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadRun(f"{root / MANIFEST} is damaged: {error}; start the run again in another folder") from error
        return cls(root, manifest)

    def path(self, variant: Variant, unit: range) -> Path:
        """The file of one unit and method."""
        return self.root / "rows" / variant.key / f"{unit.start:09d}.parquet"

    def keep(self, variant: Variant, unit: range, rows: Sequence[Row]) -> None:
        """Write what one unit and method gave."""
        path = self.path(variant, unit)
        try:
            path.parent.mkdir(exist_ok=True)
            describe(path.parent, variant)
            write(path, rows, {"fingerprint": self.manifest["fingerprint"], "unit": f"{unit.start}-{unit.stop}"})
        except OSError as error:
            raise BadRun(f"{path} cannot be written: {error.strerror or error}; nothing before it is lost") from error

    def missing(self, variants: Sequence[Variant], unit: range) -> list[Variant]:
        """Methods whose file of this unit is absent or damaged."""
        return [variant for variant in variants if self.rows(variant, unit) is None]

    def rows(self, variant: Variant, unit: range) -> list[Row] | None:
        """What one unit and method gave, or None. A damaged file counts as none."""
        path = self.path(variant, unit)
        if not path.exists():
            return None
        try:
            rows, facts = read(path)
        except GradTokenError:
            raise
        except (OSError, ValueError):
            return None
        return rows if facts.get("fingerprint") == self.manifest["fingerprint"] else None

    @property
    def units(self) -> list[range]:
        """All units of the run."""
        settings = self.manifest["settings"]
        count, size = settings["data"]["samples"], settings["unit"]
        return [range(i, min(i + size, count)) for i in range(0, count, size)]

    @property
    def variants(self) -> list[Variant]:
        """The methods that were begun, by title."""
        found = []
        for path in sorted((self.root / "rows").glob(f"*/{DESCRIPTION}")):
            found.append(described(path))
        return sorted(found, key=lambda variant: variant.title)

    @property
    def done(self) -> dict[str, tuple[int, int]]:
        """Units of each method that are there, of how many; a file is not opened, and may be damaged."""
        units = self.units
        return {v.title: (sum(self.path(v, unit).exists() for unit in units), len(units)) for v in self.variants}

    def all_rows(self, variant: Variant) -> Iterator[Row]:
        """The rows of a method, unit by unit."""
        for unit in self.units:
            yield from self.rows(variant, unit) or ()


def describe(folder: Path, variant: Variant) -> None:
    """Write which method the rows of a folder are of, if there is a folder that does not say so."""
    path = folder / DESCRIPTION
    text = json.dumps({"method": variant.method, "options": dict(sorted(variant.options.items()))})
    if folder.is_dir() and not (path.exists() and path.read_bytes() == text.encode()):
        replace_text(path, text)


def described(path: Path) -> Variant:
    """The method that `describe` wrote down."""
    try:
        facts = json.loads(path.read_text())
        return Variant(str(facts["method"]), dict(facts["options"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRun(f"{path} is damaged: {error}; run the same methods again, which keeps their rows") from error


def replace_text(path: Path, text: str) -> None:
    """Write a file that is whole or absent."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        partial.write_text(text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Names of the settings that are not the same, or that one of both lacks."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [name]
    found = []
    for key in dict.fromkeys((*one, *other)):
        below = f"{name}.{key}".strip(".")
        found += differing(one[key], other[key], below) if key in one and key in other else [below]
    return found
