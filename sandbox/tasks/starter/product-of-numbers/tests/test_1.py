from products import product


def test_two_numbers():
    assert product([3, 4]) == 12


def test_empty_product_is_one():
    assert product([]) == 1


def test_with_a_zero():
    assert product([5, 0, 2]) == 0


def test_negatives():
    assert product([-2, 3, -1]) == 6
