"""The `verifiers` app."""
