from checkout import amount_due
from discounts import after_discount


def test_ten_percent_off():
    assert after_discount(2000, 10) == 1800


def test_no_discount():
    assert after_discount(999, 0) == 999


def test_shipping_after_the_discount():
    assert amount_due([3000, 2500], 20) == 4400 + 490


def test_free_shipping():
    assert amount_due([6000]) == 6000


def test_free_at_the_limit():
    assert amount_due([10000], 50) == 5000


def test_small_order():
    assert amount_due([1000, 500]) == 1990
