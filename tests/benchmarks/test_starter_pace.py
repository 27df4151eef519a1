"""When a starter run had learned, in whole passes, and the table of earlier and present runs."""

from benchmarks.starter_pace import pace_table, reached
from tests.benchmarks.test_starter import summary


def test_reached_at_the_end_of_the_first_whole_pass_that_gained_enough() -> None:
    # passes 0.2, 0.35, 0.45: the second step of the third is the sixth, at ten seconds each
    assert reached(summary([0.1, 0.3, 0.6, 0.1, 0.5, 0.4])) == (6, 60.0)


def test_half_a_pass_does_not_count() -> None:
    assert reached(summary([0.1, 0.3, 0.9])) is None


def test_table_has_the_earlier_run_and_the_present_one_of_each_seed() -> None:
    rows = pace_table([summary([0.1, 0.3, 0.2, 0.2])], [summary([0.1, 0.3, 0.5, 0.7])])
    assert rows.splitlines()[2:] == [
        "| 0 | before | 4 | 0.20 | 0.20 | 0.25 | 0.75 | not reached | 10 |  |",
        "| 0 | now | 4 | 0.20 | 0.60 | 0.25 | 0.75 | 4 | 10 | 40 |",
    ]


def test_a_seed_with_no_earlier_run_has_no_row() -> None:
    assert len(pace_table([], [summary([0.1, 0.3, 0.5, 0.7])]).splitlines()) == 2
