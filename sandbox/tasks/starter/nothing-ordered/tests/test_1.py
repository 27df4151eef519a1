from orders import nothing_ordered


def test_empty():
    assert nothing_ordered([]) is True


def test_one_order():
    assert nothing_ordered(["tea"]) is False


def test_many_orders():
    assert nothing_ordered(["tea", "cake", "tea"]) is False
