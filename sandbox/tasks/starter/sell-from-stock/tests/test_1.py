import pytest

from shop import sell
from stock import take


def test_take_leaves_the_rest():
    assert take({"apple": 5}, "apple", 3) == 2


def test_take_too_many_raises():
    shelf = {"apple": 2}
    with pytest.raises(ValueError):
        take(shelf, "apple", 3)
    assert shelf == {"apple": 2}


def test_take_unknown_item_raises():
    with pytest.raises(ValueError):
        take({}, "apple", 1)


def test_sell_too_many_raises():
    shelf = {"bread": 1}
    with pytest.raises(ValueError):
        sell(shelf, "bread", 2)


def test_sell_takes_all_that_is_sold():
    shelf = {"bread": 4}
    assert sell(shelf, "bread", 3) == 9
    assert shelf == {"bread": 1}
