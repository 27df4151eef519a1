"""Version numbers such as 1.10.2."""


def parts(version):
    """The numbers of a version, for comparing."""
    return version.lstrip("v").split(".")


def is_newer(version, than):
    """Whether one version is newer than another."""
    return parts(version) > parts(than)


def newest(versions):
    """The newest of a list of versions."""
    return max(versions, key=parts)
