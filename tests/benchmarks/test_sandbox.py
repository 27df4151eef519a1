"""The arithmetic of the sandbox benchmark, and real episodes of our side."""

from pathlib import Path

import pytest

from benchmarks.episodes import Measured, percentile
from benchmarks.our_episodes import measure
from benchmarks.sandbox import PAIRS, table
from sandbox.base import load_backend
from sandbox.pool import Pool


def measured(*, whole_s: float, exec_s: tuple[float, ...]) -> Measured:
    return Measured(at_once=2, whole_s=whole_s, start_s=(1.0, 3.0), exec_s=exec_s, grades=False)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 21)]
    assert [percentile(values, share) for share in (0.5, 0.95, 1.0)] == [10.0, 19.0, 20.0]
    assert percentile([7.0], 0.5) == 7.0


def test_the_table_says_how_many_times_as_good_ours_is() -> None:
    ours, theirs = measured(whole_s=10, exec_s=(0.1,)), measured(whole_s=40, exec_s=(0.3,))
    rows = table(PAIRS["docker"], ours, theirs).splitlines()
    assert rows[2] == "| episodes a minute | 12 | 3 | 4.0 |"
    assert rows[3] == "| start, p50 s | 1 | 1 | 1.0 |"
    assert rows[5] == "| exec, p50 s | 0.1 | 0.3 | 3.0 |"


def test_measurements_survive_their_file(tmp_path: Path) -> None:
    before = measured(whole_s=2, exec_s=(0.5, 0.25))
    before.save(tmp_path / "m.json")
    assert Measured.load(tmp_path / "m.json") == before


@pytest.mark.parametrize("at_once", [1, 3])
def test_our_episodes_are_whole_and_graded(at_once: int) -> None:
    pool = Pool(load_backend("bubblewrap"), max_operations=4)
    try:
        result = measure(pool, 3, at_once)
    finally:
        pool.close()
    assert (len(result.start_s), len(result.exec_s), result.grades) == (3, 30, True)
