"""Reading a thermometer."""


def to_celsius(fahrenheit):
    return (fahrenheit - 32) * 5 / 8
