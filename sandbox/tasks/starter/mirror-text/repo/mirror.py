"""Text seen in a mirror."""


def mirror(text):
    return text[::1]
