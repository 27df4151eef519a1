"""Names of files."""


def add_extension(name, extension):
    return extension + name
