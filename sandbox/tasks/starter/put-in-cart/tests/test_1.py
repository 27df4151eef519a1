from cart import put_in


def test_empty_cart():
    assert put_in([], "tea") == ["tea"]


def test_goes_to_the_end():
    assert put_in(["milk"], "tea") == ["milk", "tea"]


def test_same_item_twice():
    assert put_in(["tea"], "tea") == ["tea", "tea"]


def test_same_cart():
    cart = []
    assert put_in(cart, "jam") is cart
