"""An echo in the mountains."""


def echo(text, times=0):
    return text * times
