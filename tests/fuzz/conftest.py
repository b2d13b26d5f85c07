"""Says what became of the inputs that were tried, as the table of docs/robustness.md."""

from tests.fuzz.outcomes import TALLY

COLUMNS = ("tried", "read", "refused", "crashed", "hung", "silently wrong")


def row(name: str, counts: dict[str, int]) -> str:
    return f"| {name} | " + " | ".join(f"{counts.get(column, 0):,}" for column in COLUMNS) + " |"


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table after the tests."""
    surfaces = sorted({surface for surface, _ in TALLY})
    if not surfaces:
        return
    terminalreporter.write_line(f"| input | {' | '.join(COLUMNS)} |")
    terminalreporter.write_line("| --- |" + " ---: |" * len(COLUMNS))
    for surface in surfaces:
        terminalreporter.write_line(row(surface, {c: TALLY[surface, c] for c in COLUMNS}))
    terminalreporter.write_line(row("**all**", {c: sum(TALLY[s, c] for s in surfaces) for c in COLUMNS}))
