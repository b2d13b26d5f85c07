"""Raw attention against the matrices of the reference."""

import pytest
import torch

from gradtoken.attribution import attribute
from tests import zoo
from tests.reference import gradtoken as oracle


@pytest.mark.parametrize("name", ["class token", "attention pooling", "not square"])
def test_is_the_readouts_row_of_the_last_attention(name):
    subject = zoo.PICTURES[name]
    net, x = subject.build(), zoo.pictures(subject)
    A = oracle.capture(net, x, torch.tensor([0, 1])).attentions[-1].A  # (B, H, N, N), or one query row
    expected = A[:, :, 0, subject.first :].mean(dim=1)
    ours = attribute(net, x, [[0, 1]] * 2, "raw_attention")
    for k in range(2):
        torch.testing.assert_close(ours[:, k].flatten(1).double(), expected, rtol=1e-5, atol=1e-7)


def test_pooled_rows_are_averaged_and_padding_is_zero():
    subject = zoo.PICTURES["no prefix, mean"]
    net, x = subject.build(), zoo.pictures(subject)
    A = oracle.capture(net, x, torch.tensor([0, 1])).attentions[-1].A
    ours = attribute(net, x, 0, "raw_attention").flatten(1)
    torch.testing.assert_close(ours.double(), A.mean(dim=(1, 2)), rtol=1e-5, atol=1e-7)
    text = attribute(zoo.bert(), zoo.TEXT, 0, "raw_attention")
    assert (text[1, 4:] == 0).all()
    assert (text[0, 1:] > 0).all()
