"""The model that learns: forward and backward over rows of tokens, its parts, and what it costs in bytes and operations."""
