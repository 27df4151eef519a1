"""Sandboxes as pods of a Kubernetes cluster, over PyPI's `kubernetes`."""
