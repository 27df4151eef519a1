"""Writing Roman numerals."""

PARTS = [
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
]


def to_roman(number):
    """The Roman numeral of a number from 1 to 399."""
    numeral = ""
    for value, letters in PARTS:
        while number >= value:
            numeral += letters
            number -= value
    return numeral
