from guests import distinct


def test_drops_repeats():
    assert distinct(["Ann", "Bob", "Ann"]) == ["Ann", "Bob"]


def test_keeps_order():
    assert distinct(["c", "a", "b", "a"]) == ["c", "a", "b"]


def test_empty():
    assert distinct([]) == []


def test_all_the_same():
    assert distinct(["x", "x", "x"]) == ["x"]
