"""What a handler says while it restores: nothing when it is quick, and otherwise how far it is."""

from io import StringIO

from rich.console import Console

from partita.cli.restoring import RestoreReport


class Screen:
    """A console, its report, and a clock that is set by hand."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.now = 100.0
        self._file = StringIO()
        console = Console(file=self._file, force_terminal=terminal, highlight=False, width=100)
        self.report = RestoreReport(console, clock=lambda: self.now)

    def reached(self, partition: int, offset: int, end: int, *, after: float = 0.0) -> None:
        self.now += after
        self.report.reached(partition, offset, end)

    def said(self) -> str:
        return self._file.getvalue()


def test_a_quick_restore_is_silent() -> None:
    screen = Screen()
    screen.reached(0, 990, 1000)
    screen.reached(0, 1000, 1000, after=0.9)
    screen.report.end()
    screen.now += 60
    screen.report.end()
    assert screen.said() == ""


def test_lines_every_few_seconds_and_one_at_the_end() -> None:
    screen = Screen()
    screen.reached(0, 1000, 21_000)
    screen.reached(1, 0, 10_000)
    for offset in range(2000, 21_001, 1000):
        screen.reached(0, offset, 21_000, after=0.5)
    screen.reached(1, 10_000, 10_000)
    screen.report.end()
    assert screen.said().splitlines() == [
        "restoring from the log: 10,000 of 30,000 records, 2,000/s",
        "restoring from the log: 20,000 of 30,000 records, 2,000/s",
        "restored from the log: 30,000 records in 10.0 s",
    ]


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    screen = Screen(terminal=True)
    screen.reached(0, 0, 10_000)
    assert screen.said() == ""
    screen.reached(0, 5000, 10_000, after=2)
    screen.reached(0, 10_000, 10_000, after=2)
    screen.report.end()
    assert "5,000 of 10,000 records" in screen.said()
    assert screen.said().endswith("restored from the log: 10,000 records in 4.0 s\n")
    assert screen.said().count("\x1b[?25l") == screen.said().count("\x1b[?25h") == 1, "the cursor is back"


def test_a_store_that_is_thrown_away_is_counted_from_the_beginning() -> None:
    screen = Screen()
    screen.reached(0, 9000, 10_000)
    screen.reached(0, 500, 10_000, after=1)
    screen.reached(0, 10_000, 10_000, after=1)
    screen.report.end()
    assert screen.said() == "restored from the log: 9,500 records in 2.0 s\n"


def test_what_was_given_up_is_not_called_restored() -> None:
    screen = Screen()
    screen.reached(0, 0, 10_000)
    screen.reached(0, 500, 10_000, after=3)
    screen.report.end()
    screen.reached(0, 10_000, 10_000)
    screen.report.end()
    assert screen.said() == ""
