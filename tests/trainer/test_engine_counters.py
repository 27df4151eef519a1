"""vLLM's Prometheus page as its server writes it; that a real server has these counters is in test_engines."""

from trainer.engine_counters import engine_metrics, read_counters

PAGE = """\
# HELP vllm:num_preemptions_total Cumulative number of preemption from the engine.
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="policy"} 3.0
vllm:num_preemptions_created{engine="0",model_name="policy"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="policy"} 600.0
vllm:prefix_cache_hits_total{engine="1",model_name="policy"} 40.0
vllm:prefix_cache_queries_total{engine="0",model_name="policy"} 1000.0
python_gc_objects_collected_total{generation="0"} 9.0
"""


def test_counters_are_summed_over_engine_processes() -> None:
    assert read_counters(PAGE) == {
        "num_preemptions": 3.0,
        "prefix_cache_hits": 640.0,
        "prefix_cache_queries": 1000.0,
    }


def test_a_step_has_what_was_counted_in_it() -> None:
    before = {"prefix_cache_hits": 600.0, "prefix_cache_queries": 900.0, "num_preemptions": 3.0}
    assert engine_metrics(before, read_counters(PAGE)) == {
        "engine/prefix_cache_hits": (40.0, 100.0),
        "engine/preemptions": (0.0, 1.0),
    }


def test_an_engine_that_was_started_again_counts_from_nothing() -> None:
    before = {"prefix_cache_hits": 9e9, "prefix_cache_queries": 9e9, "num_preemptions": 9e9}
    assert engine_metrics(before, read_counters(PAGE))["engine/prefix_cache_hits"] == (640, 1000)


def test_an_engine_that_counts_nothing_has_no_metrics() -> None:
    assert engine_metrics({}, {}) == {}
