"""A run's folder: a manifest, and one file for each unit and method, which is whole or absent."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradtoken.benchmark.plan import Plan, Units, Variant, fingerprint_of
from gradtoken.benchmark.rows import Row, facts_of, read_table
from gradtoken.benchmark.store import Address, Store, below
from gradtoken.errors import BadRun
from gradtoken.outside import decoded

MOST = 2**27  # samples of a run
MANIFEST, DESCRIPTION, ROWS, BEING_KEPT = "manifest.json", "variant.json", "rows", "being-kept"


@dataclass(frozen=True)
class RunFolder:
    """root/manifest.json, root/rows/METHOD-KEY/variant.json and root/rows/METHOD-KEY/FIRST.parquet.

    root/being-kept/FIRST.json names the methods of a unit while their files are put in place, one after the other.
    """

    root: Address
    manifest: dict[str, Any]

    @classmethod
    def begin(cls, root: Address, plan: Plan) -> "RunFolder":
        """A new run, or the same one again. Raises BadRun for a folder that holds another."""
        manifest, store = plan.manifest(), Store(root)
        try:
            if MANIFEST not in store.names(""):
                store.write(MANIFEST, json.dumps(manifest, indent=1).encode(), new=True)
            known = cls.open(root)
            known.check_same(manifest)
            for variant in plan.variants:
                known.describe(variant)
        except OSError as error:
            raise BadRun(f"the run folder {root} cannot be written: {error.strerror or error}") from error
        return known

    def check_same(self, manifest: dict[str, Any]) -> None:
        """Raises BadRun for the manifest of another run."""
        if self.manifest["fingerprint"] != manifest["fingerprint"]:
            changed = differing(self.manifest["settings"], manifest["settings"])
            if "protocol.name" in changed:  # whose other settings then say nothing more
                changed = ["protocol", *(name for name in changed if not name.startswith("protocol."))]
            raise BadRun(f"{self.root} holds another run, with other {', '.join(changed)}; name another folder")

    @classmethod
    def open(cls, root: Address) -> "RunFolder":
        """A run that was begun."""
        try:
            manifest = decoded(Store(root).read(MANIFEST))
            if manifest["fingerprint"] != fingerprint_of(manifest["settings"]):
                raise ValueError("its fingerprint is not that of its settings")
            check_settings(manifest["settings"])
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadRun(f"{root} is not a run: it has no {MANIFEST}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            place = below(root, MANIFEST)
            raise BadRun(f"{place} is damaged: {error}; start the run again in another folder") from error
        return cls(root, manifest)

    @property
    def store(self) -> Store:
        """Its files."""
        return Store(self.root)

    def name(self, variant: Variant, unit: range) -> str:
        """Of the file of one unit and method, below the root."""
        return f"{ROWS}/{variant.key}/{unit.start:09d}.parquet"

    def path(self, variant: Variant, unit: range) -> Address:
        """Where that file is."""
        return below(self.root, self.name(variant, unit))

    def facts(self, unit: range) -> dict[str, str]:
        """What the file of a unit says of itself."""
        return {"fingerprint": self.manifest["fingerprint"], "unit": f"{unit.start}-{unit.stop}"}

    def keep(self, unit: range, files: Mapping[str, bytes]) -> None:
        """Put what one unit gave in place, by the keys of the methods."""
        for key, content in files.items():
            self.put(f"{ROWS}/{key}/{unit.start:09d}.parquet", content)

    def put(self, name: str, content: bytes) -> None:
        """Write a file. Raises BadRun."""
        try:
            self.store.write(name, content)
        except OSError as error:
            place, reason = below(self.root, name), error.strerror or error
            raise BadRun(f"{place} cannot be written: {reason}; nothing before it is lost") from error

    def mark(self, unit: range) -> str:
        """The file that is there while files of several protocols are put in place."""
        return f"{BEING_KEPT}/{unit.start:09d}.json"

    @property
    def marks(self) -> set[str]:
        """Those that are there."""
        return {f"{BEING_KEPT}/{name}" for name in self.store.names(BEING_KEPT)}

    def begin_keeping(self, unit: range, keys: Iterable[str]) -> None:
        """Say which files of a unit are now put in place, beside those of a run that stopped."""
        self.put(self.mark(unit), json.dumps(sorted({*self.interrupted(unit), *keys})).encode())

    def end_keeping(self, unit: range, keys: Iterable[str]) -> None:
        """Say that these are in place, whichever run began it."""
        marked = set(self.interrupted(unit))
        if marked.difference(keys):
            self.put(self.mark(unit), json.dumps(sorted(marked.difference(keys))).encode())
        elif marked:
            self.store.delete(self.mark(unit))

    def interrupted(self, unit: range) -> list[str]:
        """Keys of the methods whose files of this unit were being put in place when a run stopped."""
        try:
            return [str(key) for key in decoded(self.store.read(self.mark(unit)))]
        except (OSError, ValueError, TypeError):
            return []

    def missing(self, variants: Iterable[Variant], unit: range) -> dict[str, str]:
        """Keys of the methods whose file of this unit is absent, or damaged; then what is wrong with it."""
        found = {}
        for variant in variants:
            try:
                self.load(variant, unit, [])
            except FileNotFoundError:
                found[variant.key] = ""
            except (OSError, ValueError) as error:
                found[variant.key] = str(error)
        return found

    def load(self, variant: Variant, unit: range, columns: list[str] | None = None) -> Any:
        """The table of one unit and method. Raises OSError where it is absent, ValueError where it is damaged."""
        table = read_table(self.store.read(self.name(variant, unit)), columns)
        if facts_of(table.schema).get("fingerprint") != self.manifest["fingerprint"]:
            raise ValueError("it is of another run")
        return table

    def table(self, variant: Variant, unit: range, columns: list[str] | None = None) -> Any:
        """The same, or None: what is absent or damaged is made again by a run that goes on."""
        try:
            return self.load(variant, unit, columns)
        except (OSError, ValueError):
            return None

    def rows(self, variant: Variant, unit: range) -> list[Row] | None:
        """What one unit and method gave, or None."""
        table = self.table(variant, unit)
        return None if table is None else [Row(**row) for row in table.to_pylist()]

    @property
    def units(self) -> Units:
        """All units of the run."""
        settings = self.manifest["settings"]
        return Units(settings["data"]["samples"], settings["unit"])

    @property
    def variants(self) -> list[Variant]:
        """The methods that were asked for, by title."""
        store = self.store
        folders = [name for name in store.names(ROWS) if DESCRIPTION in store.names(f"{ROWS}/{name}")]
        found = [described(store, folder) for folder in folders]
        return sorted(found, key=lambda variant: variant.title)

    @property
    def done(self) -> dict[str, tuple[int, int]]:
        """Units of each method that are there, of how many; a file is not opened, and may be damaged."""
        units = self.units
        found = {}
        for variant in self.variants:
            names = self.names(variant)
            found[variant.title] = (sum(self.name(variant, unit) in names for unit in units), len(units))
        return found

    def names(self, variant: Variant) -> set[str]:
        """Names of a method's files, whatever they hold."""
        folder = f"{ROWS}/{variant.key}"
        return {f"{folder}/{name}" for name in self.store.names(folder)}

    def all_rows(self, variant: Variant) -> Iterator[Row]:
        """The rows of a method, unit by unit."""
        for unit in self.units:
            yield from self.rows(variant, unit) or ()

    def describe(self, variant: Variant) -> None:
        """Write down which method the rows of a folder are of, unless it says so."""
        name = f"{ROWS}/{variant.key}/{DESCRIPTION}"
        text = json.dumps({"method": variant.method, "options": dict(sorted(variant.options.items()))}).encode()
        try:
            known = self.store.read(name)
        except FileNotFoundError:
            known = b""
        if known != text:
            self.store.write(name, text)


def described(store: Store, folder: str) -> Variant:
    """The method that was written down for a folder, whose name is the method's key."""
    name = f"{ROWS}/{folder}/{DESCRIPTION}"
    try:
        facts = decoded(store.read(name))
        variant = Variant(str(facts["method"]), dict(facts["options"]))
        if variant.key != folder:
            raise ValueError(f"it is of {variant.key}")
        return variant
    except (OSError, ValueError, KeyError, TypeError) as error:
        place = below(store.root, name)
        raise BadRun(f"{place} is damaged: {error}; run the same methods again, which keeps their rows") from error


def check_settings(settings: Any) -> None:
    """Raise ValueError where what is read of a run without its plan is not of its type."""
    names = [settings[part]["name"] for part in ("protocol", "data", "model")]
    numbers = [settings["unit"], settings["data"]["samples"]]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name is no text")
    if not all(type(number) is int and 0 < number <= MOST for number in numbers):
        raise ValueError(f"expected unit and samples from 1 to {MOST}, got {numbers}")


def differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Names of the settings that are not the same, or that one of both lacks."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [name]
    found = []
    for key in dict.fromkeys((*one, *other)):
        below = f"{name}.{key}".strip(".")
        found += differing(one[key], other[key], below) if key in one and key in other else [below]
    return found
