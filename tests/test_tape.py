"""Operations that are passed over: zeros of the shape that the operation would give."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from gradtoken import tape


def ones(*shape):
    return torch.ones(shape)


@pytest.mark.parametrize(
    ("op", "args", "named"),
    [
        (F.conv2d, (ones(2, 3, 9, 7), ones(4, 3, 2, 3)), {}),
        (F.conv2d, (ones(3, 9, 7), ones(4, 3, 2, 3)), {"stride": (2, 1), "padding": 1}),
        (F.conv2d, (ones(2, 6, 9, 7), ones(4, 3, 3, 3), ones(4), 1, "same", 2, 2), {}),
        (F.conv2d, (ones(2, 6, 9, 7), ones(6, 1, 3, 2)), {"groups": 6, "dilation": (2, 3)}),
        (torch.addmm, (ones(5), ones(2, 3), ones(3, 5)), {"beta": 2}),
        (torch.baddbmm, (ones(4, 2, 5), ones(4, 2, 3), ones(4, 3, 5)), {"alpha": 2}),
        (torch.matmul, (ones(3), ones(4, 3, 5)), {}),
        (torch.matmul, (ones(6, 1, 2, 3), ones(4, 3, 5)), {}),
        (torch.add, (ones(4, 1), ones(3)), {}),
        (F.linear, (ones(2, 4, 3), ones(5, 3)), {}),
        (F.scaled_dot_product_attention, (ones(2, 1, 4, 3), ones(2, 1, 6, 3), ones(2, 1, 6, 5)), {}),
    ],
)
def test_shapes_are_those_of_the_operation(op, args, named):
    zeros = tape.zeros_of(op, args[0], args, named)
    assert zeros.shape == op(*args, **named).shape
    assert not zeros.any()


def test_passing_over_imports_no_algebra():
    """PyTorch imports sympy for some arithmetic of shapes, which takes as long as a map."""
    code = "import sys, gradtoken; from gradtoken.models.bundled import FOLDER; "
    code += "gradtoken.explain(FOLDER / 'pictures' / 'cat.jpg', method='legrad'); print('sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
