"""One line of a settings file."""


def read_setting(line):
    key, value = line.split("=")
    return key.strip(), value.strip()
