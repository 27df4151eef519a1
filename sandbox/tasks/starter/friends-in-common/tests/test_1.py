from friends import in_common


def test_one_in_common():
    assert in_common(["Ann", "Bob"], ["Bob", "Cy"]) == ["Bob"]


def test_none():
    assert in_common(["Ann"], ["Cy"]) == []


def test_order_of_the_first_list():
    assert in_common([3, 1, 2], [1, 2, 3]) == [3, 1, 2]


def test_empty():
    assert in_common([], ["Ann"]) == []
