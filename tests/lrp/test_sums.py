"""Sums and differences in every spelling, each operand with its factor, and norms, against the formulas."""

import operator

import pytest
import torch
import torch.nn.functional as F

from gradtoken.lrp import ABS_LRP, ATTN_LRP, LRP_PUBLISHED, norms
from tests.lrp.backward import close, numbers, pulled

EPS = 1e-9
SPELLINGS = {  # operation of a and b, and the factors of a and b
    "a + b": (operator.add, (1, 1)),
    "a - b": (operator.sub, (1, -1)),
    "add": (lambda a, b: torch.add(a, b, alpha=3), (1, 3)),
    "sub": (lambda a, b: a.sub(b, alpha=3), (1, -3)),
    "rsub": (torch.rsub, (-1, 1)),
    "rsub with a factor": (lambda a, b: torch.rsub(a, b, alpha=3), (-3, 1)),
}
a, b, R = numbers(2, 4), numbers(2, 4, seed=1), numbers(2, 4, seed=9)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_operand_gets_its_part_of_the_sum(spelling):
    """R_a = s a R / (s a + t b)."""
    f, (s, t) = SPELLINGS[spelling]
    y, found = pulled(LRP_PUBLISHED, f, a, b, R=R)
    close(y, s * a + t * b)
    for part, R_part in zip((s * a, t * b), found, strict=True):
        close(R_part, part * R / y, 1e-7)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_operand_gets_twice_its_positive_part(spelling):
    """R_a = (s a + |s a|) R / (|y| + 1e-9), to sum |R_a| = 1."""
    f, (s, t) = SPELLINGS[spelling]
    y, found = pulled(ABS_LRP, f, a, b, R=R)
    close(y, s * a + t * b)
    for part, R_part in zip((s * a, t * b), found, strict=True):
        r = (part + part.abs()) * R / (y.abs() + EPS)
        close(R_part, r / (r.abs().sum(dim=1, keepdim=True) + EPS), 1e-7)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", [0, 1])
def test_a_constant_keeps_its_part(spelling, place):
    f, factors = SPELLINGS[spelling]
    terms = (a, b)
    y, (found,) = pulled(LRP_PUBLISHED, lambda x: f(*((x, b) if place == 0 else (a, x))), terms[place], R=R)
    close(found, factors[place] * terms[place] * R / y, 1e-7)


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (lambda x: norms.layer_norm(x, (4,)), lambda x: F.layer_norm(x, (4,))),
        (lambda x: norms.rms_norm(x, (4,)), lambda x: F.rms_norm(x, (4,))),
        (norms.unit, F.normalize),
        (lambda x: norms.softmax(x, 1), lambda x: F.softmax(x, 1)),
    ],
)
def test_norms_with_no_more_said_are_pytorchs(own, theirs):
    """So small that epsilon counts, and with more than two axes."""
    x = 1e-3 * numbers(2, 3, 4)
    close(own(x), theirs(x))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: torch.baddbmm(x, x, x.mT @ x, alpha=3, beta=2),
        lambda x: torch.einsum("bij,bkj->bik", [x, x]),
        lambda x: torch.einsum("bij,bkj->bik", x, x),
    ],
)
def test_products_with_factors_and_in_lists_are_left_as_they_are(f):
    x = numbers(2, 3, 4)
    close(pulled(ATTN_LRP, f, x)[0], f(x))
