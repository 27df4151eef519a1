"""What a vLLM server counts, from its Prometheus page, and what of it happened in a step.

The names are those of vLLM's own metrics without `vllm:` and `_total`; counters of several engine processes are summed. A
server that was started again counts from 0, so a counter that is lower than before counts from there.
"""

from collections.abc import Mapping

from trainer.events import Metric

NAMES = ("prefix_cache_hits", "prefix_cache_queries", "num_preemptions")


def read_counters(page: str) -> dict[str, float]:
    """The counters of NAMES that the page has."""
    counters: dict[str, float] = {}
    for line in page.splitlines():
        name = line.partition("{")[0].partition(" ")[0].removeprefix("vllm:").removesuffix("_total")
        if name in NAMES:
            counters[name] = counters.get(name, 0.0) + float(line.rpartition(" ")[2])
    return counters


def engine_metrics(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Metric]:
    """Between two readings; empty when the engine counts nothing."""
    if not before or not after:
        return {}
    grown = {
        name: value - before.get(name, 0.0) if value >= before.get(name, 0.0) else value
        for name, value in after.items()
    }
    return {
        "engine/prefix_cache_hits": (
            grown.get("prefix_cache_hits", 0.0),
            grown.get("prefix_cache_queries", 0.0),
        ),
        "engine/preemptions": (grown.get("num_preemptions", 0.0), 1.0),
    }
