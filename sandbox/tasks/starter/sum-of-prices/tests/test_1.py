from prices import sum_prices


def test_empty_basket_costs_nothing():
    assert sum_prices([]) == 0


def test_one_price():
    assert sum_prices([5]) == 5


def test_several_prices():
    assert sum_prices([3, 4, 10]) == 17


def test_decimals():
    assert sum_prices([0.5, 0.25]) == 0.75
