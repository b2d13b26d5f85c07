"""What can go wrong, as one family.

GradTokenError
├── UnknownName          a method, model, class name or option that does not exist (also a LookupError)
├── BadTarget            a target that does not fit the model's output (also a ValueError)
├── BadPicture           a picture that cannot be read
├── BadText              a text that cannot be read, or has no word
├── BadSound             a sound that cannot be read, or is too short
├── BadModel             weights, output or preprocessing that cannot be used
│   ├── NoAttention      no attention was seen, or the last one does not reach the output
│   ├── NoBlocks         the residual connections around the attentions could not be followed
│   ├── NoGrid           the tokens could not be put back on the picture
│   └── NoRule           an operation that a preset of relevance rules does not know
├── BadRelevance         a map that is zero everywhere or not finite
├── BadData              a data set that is not laid out as expected
│   └── BadSample        one sample of it that cannot be used
├── BadRun               a benchmark's run folder that cannot be used
└── MissingExtra         an optional dependency is not installed (also an ImportError)

Every message says what was expected, what came and what to do.
"""

import difflib
from collections.abc import Iterable

MOST = 40  # names that a message lists


class GradTokenError(Exception):
    """Base of every error this package raises on purpose."""


class UnknownName(GradTokenError, LookupError):
    """A name that is not among those known."""

    @classmethod
    def among(cls, kind: str, name: object, known: Iterable[str]) -> "UnknownName":
        """`no method 'rollot'; did you mean 'rollout'?`."""
        names = list(known)
        near = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
        more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
        listed = f"known: {', '.join(names[:MOST]) or 'none'}{more}"
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else listed
        return cls(f"no {kind} {name!r}; {hint}")


class BadTarget(GradTokenError, ValueError):
    """A class index, shape or name that does not fit the model's output."""


def expect_between(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise BadTarget for an option outside low ... high."""
    if not low <= value <= high:
        raise BadTarget(f"expected {name} from {low:g} to {high:g}, got {value!r}")


class BadPicture(GradTokenError):
    """A file that is not a readable picture, or one that is too large."""


class BadText(GradTokenError):
    """What is not a readable text, or one without a word."""


class BadSound(GradTokenError):
    """What is not a readable sound, or one that is too short for its model."""


class BadModel(GradTokenError):
    """A model that cannot be loaded or explained."""


class NoAttention(BadModel):
    """The model computes no attention that its output depends on."""


class NoBlocks(BadModel):
    """A method needs the inputs and outputs of blocks, and the model's residual connections were not found."""


class NoRule(BadModel):
    """An operation carries relevance and has no rule."""


class NoGrid(BadModel):
    """The attention's tokens do not correspond one to one to patches of the picture."""


class BadRelevance(GradTokenError):
    """An explanation that is zero everywhere or not finite, with the reason."""


class BadData(GradTokenError):
    """A data set whose folder or files are not laid out as expected."""


class BadSample(BadData):
    """One sample that cannot be used, with the reason; the others go on."""


class BadRun(GradTokenError):
    """A run folder that is damaged, of another configuration, or in use."""


class MissingExtra(GradTokenError, ImportError):
    """An optional dependency is needed; the message gives the command that installs it."""

    @classmethod
    def of(cls, package: str, extra: str) -> "MissingExtra":
        """`timm is not installed; run: pip install 'gradtoken[timm]'`."""
        return cls(f"{package} is not installed; run: pip install 'gradtoken[{extra}]'")
