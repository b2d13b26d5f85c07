"""The list of protocols and metrics is that of the registries."""

import importlib.util
from pathlib import Path

import pytest

from gradtoken.protocols import PROTOCOLS

SCRIPT = Path(__file__).parents[2] / "scripts" / "protocols_doc.py"


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("protocols_doc", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.document(), "run: python scripts/protocols_doc.py"


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_protocol_says_which_pictures_its_published_numbers_are_of(protocol):
    assert protocol.pictures
    assert "pictures" not in protocol.describe()  # which changes no number, and must not make another run


def test_ways_to_erase_are_told_in_words():
    deletion, insertion = PROTOCOLS["insertion-deletion/petsiuk2018"].courses
    assert str(deletion) == "deletion: most relevant first, to the mean colour"
    assert str(insertion) == "insertion: least relevant first, to the blurred picture, told backwards"
