"""The simple call: a picture, a text or a sound, a model and a class in, an `Explanation` out."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor, nn

from gradtoken import doubts, manual
from gradtoken.answering import Options, of_text, reads_about, stated
from gradtoken.attribution import check_maps, to_maps
from gradtoken.choosing import Asked, Choice
from gradtoken.errors import BadTarget, UnknownName
from gradtoken.methods import METHODS
from gradtoken.models.clip import asked, expect_captions, with_picture
from gradtoken.models.film import Watched
from gradtoken.models.films import open_film
from gradtoken.models.load import load
from gradtoken.models.model import Model, Pipeline, prepared
from gradtoken.models.pictures import Source, open_picture
from gradtoken.models.sounds import Sound, open_sound
from gradtoken.models.texts import open_text
from gradtoken.probe import Probe
from gradtoken.prompting import reads_of
from gradtoken.provenance import provenance
from gradtoken.reading import Read, Reading
from gradtoken.result import Array, Box, Explanation, Explanations
from gradtoken.state import first_weight


def explain(
    picture: Source | tuple[Any, float],
    model: str | nn.Module | Pipeline | Model = "bundled",
    target: Asked | Sequence[Asked] = None,
    method: str | Sequence[str] = "gradtoken",
    *,
    words: bool = False,
    prompt: str | None = None,
    allow_blank: bool = False,
    **options: Any,
) -> Explanation | Explanations:
    """Which parts of a picture or of a sound, or which words of a text, speak for a class.

    picture: a file name, an open file, bytes, a PIL picture or an array. For a model of texts: the text itself, or a
    `pathlib.Path`, bytes or an open file with it. For one of sounds: such a file, or (samples, samples a second).
    For one of films: a list of frames, a folder of them, an animated picture or a video.
    model: a name (`bundled`, a hub name, `timm:NAME`, `torchvision:NAME`, `open_clip:NAME`), a folder, a module that
    carries its preprocessing, a pipeline of transformers, or what `load` returned, which saves loading it again.
    target: a class name or index, a callable on the output, `contrast`, `similarity_to`, None for the predicted class,
    or a list of these, which share one forward pass. For a model of pictures and captions, captions.
    method: one of `METHODS`, or a list. options: the method's own.
    words: explain the words of the captions instead of the picture.
    prompt: for a model that continues texts about pictures, such as LLaVA, the text; the picture is where it says so.
    allow_blank: keep maps that are zero everywhere, which are an error otherwise.

    An option goes to each of the methods that have it; where they should differ, `**{"rollout.start": 2}`. For texts
    there are also merge="max", special=False and windows=None, see `gradtoken.reading.Reading`.

    Returns an `Explanation`, or `Explanations` (methods outside, targets inside) where a list was asked for; of a film
    `Explanations`, moments outside; of a picture with a prompt likewise, its maps and then the words.
    """
    single = prompt is None and (isinstance(target, str) or not isinstance(target, Sequence))
    methods = [method] if isinstance(method, str) else list(method)
    reading, options = Reading.among(options)
    chosen = options_of(methods, options)
    loaded, targets, source = model if isinstance(model, Model) else load(model), listed(target), file_name(picture)
    if prompt is not None:
        reads = reads_about(picture, prompt, loaded, targets, reading or Reading())
        found = of_text(reads, chosen, methods, allow_blank, source)
    elif words:
        about = with_picture(loaded, open_picture(picture), source)
        captions = expect_captions(loaded, targets)
        reads = [(Read.of(one, about, [0], reading or Reading()), [k]) for k, one in enumerate(captions)]
        found = of_text(reads, chosen, methods, allow_blank, source)
    elif loaded.reads_texts:
        reads = reads_of(open_text(picture), loaded, targets, reading or Reading())
        found = of_text(reads, chosen, methods, allow_blank, "" if isinstance(picture, str) else source)
    elif loaded.watches_films:
        expect_no_reading(reading, loaded)
        watched = loaded.for_films(open_film(picture, loaded.for_films.count))
        case = Case.of(watched, source, loaded, targets)
        return Explanations(tuple(of_film(watched, case, chosen, methods, allow_blank)))
    else:
        expect_no_reading(reading, loaded)
        found = of_picture(Case.of(opened(picture, loaded), source, loaded, targets), chosen, methods, allow_blank)
    return found[0] if single and isinstance(method, str) else Explanations(tuple(found))


Judged = tuple[str, int, Tensor, tuple[str, ...]]  # method, number of the target, its map, what speaks against it


def of_picture(case: "Case", chosen: Options, methods: Sequence[str], allow_blank: bool) -> list[Explanation]:
    """Methods outside, targets inside."""
    return explained(case, chosen, maps_of(case, chosen, methods, allow_blank))


def explained(case: "Case", chosen: Options, maps: Sequence[Judged]) -> list[Explanation]:
    """Maps with all that is known of them."""
    return [case.explanation(m, k, name, chosen[name], said) for name, k, m, said in maps]


def of_film(
    watched: Watched, case: "Case", chosen: Options, methods: Sequence[str], allow_blank: bool
) -> list[Explanation]:
    """Moments outside, then methods, targets inside."""
    maps = maps_of(case, chosen, methods, allow_blank)
    found = []
    for i, number in enumerate(watched.numbers):
        shared = case.shared | {"source": f"{case.shared['source'] or 'film'}, frame {number}"}
        part = replace(case, shown=partial(watched.shown, moment=i), shared=shared)
        found += explained(part, chosen, maps)
    return found


def maps_of(case: "Case", chosen: Options, methods: Sequence[str], allow_blank: bool) -> list[Judged]:
    """(rows, columns) of each method and target."""
    found = []
    for name in methods:
        run = METHODS[name].bind(chosen[name])
        R = run(case.probe)
        check_maps(R, name, allow_blank)
        said = zip(case.doubts(R, name), doubts.rounding(case.probe, run, R), strict=True)
        maps = zip(to_maps(case.probe, R)[0], said, strict=True)
        found += [(name, k, m, (*own, *more)) for k, (m, (own, more)) in enumerate(maps)]
    return found


def expect_no_reading(reading: Reading | None, model: Model) -> None:
    """Refuse for a picture what is said of texts."""
    if reading is not None:
        raise BadTarget(
            f"merge, special and windows are for texts, and {model.name} reads {model.subject}; leave them out"
        )


def listed(target: Any) -> list[Any]:
    """Targets as a list that is not empty."""
    targets = [target] if isinstance(target, str) or not isinstance(target, Sequence) else list(target)
    if not targets:
        raise BadTarget("expected at least one target, got an empty list")
    return targets


def options_of(methods: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each method: `name` is for all that have it, `method.name` for one; unknown ones are refused."""
    if not methods:
        raise BadTarget("expected at least one method, got an empty list")
    chosen: dict[str, dict[str, Any]] = {name: {} for name in methods}
    known = {name: [option.name for option in manual.options(METHODS[name])] for name in chosen}
    for option, value in sorted(options.items(), key=lambda item: "." in item[0]):  # what is said of one comes last
        owner, _, name = option.rpartition(".")
        if owner and owner not in chosen:
            raise UnknownName.among("method among those asked", owner, chosen)
        takers = [owner] if owner else [m for m in chosen if name in known[m]]
        if not takers:
            whose = next(iter(chosen)) if len(chosen) == 1 else f"any of the {len(chosen)} methods asked"
            raise no_option(whose, name, {one for names in known.values() for one in names})
        for taker in takers:
            chosen[taker][name] = value
    for taker, found in chosen.items():
        METHODS[taker].bind(found)
    return chosen


def no_option(whose: str, name: str, known: set[str]) -> UnknownName:
    """The refusal; an option of other methods is refused with their names."""
    owners = [m for m, entry in METHODS.items() if any(option.name == name for option in manual.options(entry))]
    if owners and name not in known:
        return UnknownName(f"no option of {whose} {name!r}; these methods have it: {', '.join(owners)}")
    return UnknownName.among(f"option of {whose}", name, sorted(known))


def file_name(picture: Any) -> str:
    """Of a picture that is a file, or ""."""
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else ""


def opened(source: Any, model: Model) -> Image.Image | Sound:
    """The picture, or for a model of sounds the sound."""
    return open_sound(source) if model.reads_sounds else open_picture(source)


@dataclass(frozen=True)
class Case:
    """One forward pass over one picture or sound, for any number of methods and the targets it was made with.

    picture: of a sound its spectrogram. shown: a map (rows, columns) as fields of an explanation. shared: what all
    explanations of it say.
    """

    probe: Probe
    choice: Choice
    picture: Image.Image
    shown: Callable[[Array], dict[str, Any]]
    shared: dict[str, Any]

    @classmethod
    def of(cls, subject: Image.Image | Sound | Watched, source: str, model: Model, targets: Sequence[Any]) -> "Case":
        """Ready to run the model."""
        model = asked(model, targets)
        shared = provenance(model) | {"source": source}
        if isinstance(subject, Sound | Watched):
            seen = model.for_sounds(subject) if isinstance(subject, Sound) else subject
            pixels, picture, shown = seen.pixels, seen.picture, seen.shown
            shared["note"] = "; ".join(filter(None, (model.note, seen.note)))
        else:
            view = model.for_pictures(subject)
            pixels, picture, shown = view.pixels, subject, partial(on_picture, subject, view.box)
        weight = first_weight(model.net)
        weight = pixels if weight is None else weight
        choice = Choice(model, targets)
        with prepared(model):
            probe = Probe(model.net, pixels[None].to(weight.device, weight.dtype), choice, model.memory)
        return cls(probe, choice, picture, shown, shared)

    def explanation(
        self, relevance: Tensor, k: int, method: str, options: dict[str, Any], said: tuple[str, ...] = ()
    ) -> Explanation:
        """A map (rows, columns) with all that is known of it, after a pass. k: number of its target; said: warnings."""
        values = self.shown(relevance.float().cpu().numpy())
        return Explanation(**values, **stated(self.choice, k, method, options), **self.shared, warnings=said)

    def doubts(self, R: Tensor, method: str) -> list[tuple[str, ...]]:
        """Of each target's relevance (1, K, ...) what speaks against it."""
        return doubts.of_maps(R[0].float(), self.choice.named(), METHODS[method].class_aware)


def on_picture(picture: Image.Image, box: Box, values: Array) -> dict[str, Any]:
    """A map of a picture as fields of an explanation."""
    return {"relevance": values, "picture": picture, "box": box}
