"""Sandboxes on one machine with no engine: bwrap, private mount namespaces, control groups."""
