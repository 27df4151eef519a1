"""Sampling during updates through the real scheduler, collector and HTTP client: what is not a matter of timing.

The engine and the sandboxes are stand-ins with recorded latencies; `benchmarks.asynchronous` measures with the same.
"""

import json
from pathlib import Path

from benchmarks.asynchronous import Measured, make_config, measure


def test_the_bound_decides_whether_rollouts_go_on_during_an_update(
    tiny_model: Path, tmp_path: Path
) -> None:
    quick, slow = [0.02, 0.005], [1.0, 0.005]
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"rollouts": [[slow], [quick, slow], [quick, quick, slow]]}))

    def run(max_staleness: int) -> Measured:
        config = make_config(
            num_steps=2, max_staleness=max_staleness, concurrency=20, model=str(tiny_model)
        )
        return measure(config, record, clock=1.0, update_s=1.5)

    off, on = run(0), run(1)
    assert (off.oldest, on.oldest) == (0, 1)
    assert off.answered_during_updates == 0
    assert on.answered_during_updates > 0
    assert 2 <= off.most_in_flight <= 20
    assert 2 <= on.most_in_flight <= 20
