"""Sandboxes as containers of a Docker engine, over PyPI's `docker`."""
