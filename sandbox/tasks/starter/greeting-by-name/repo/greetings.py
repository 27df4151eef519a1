"""Greetings for visitors."""


def greet(name):
    return "Hello, " + "name"
