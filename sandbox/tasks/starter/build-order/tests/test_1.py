from building import build_order


def test_needed_part_comes_first():
    assert build_order({"car": ["wheel"]}) == ["wheel", "car"]


def test_chain():
    assert build_order({"a": ["b"], "b": ["c"], "c": []}) == ["c", "b", "a"]


def test_shared_part_is_built_once():
    assert build_order({"bike": ["wheel"], "car": ["wheel"]}) == ["wheel", "bike", "car"]


def test_nothing_needed():
    assert build_order({"b": [], "a": []}) == ["a", "b"]


def test_empty():
    assert build_order({}) == []
