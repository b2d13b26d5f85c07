"""What users can call changes on purpose only."""

from tests import api


def test_names_signatures_and_options_are_those_of_the_snapshot():
    known = api.SNAPSHOT.read_text(encoding="utf-8").splitlines()
    found = api.lines()
    gone = [line for line in known if line not in found]
    new = [line for line in found if line not in known]
    told = "\n".join([*(f"- {line}" for line in gone), *(f"+ {line}" for line in new)])
    assert not told, f"if this is meant: python -m tests.api > tests/api.txt\n{told}"


def test_the_snapshot_sees_a_change():
    def before(a, *, b=1):
        pass

    def after(a, *, b=2):
        pass

    assert list(api.of("f", before)) == ["f(a, *, b=1)"]
    assert list(api.of("f", after)) != list(api.of("f", before))
