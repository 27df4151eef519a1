from fizz import fizz


def test_fifteen():
    assert fizz(15) == "FizzBuzz"


def test_three():
    assert fizz(3) == "Fizz"


def test_five():
    assert fizz(5) == "Buzz"


def test_seven():
    assert fizz(7) == "7"


def test_thirty():
    assert fizz(30) == "FizzBuzz"
