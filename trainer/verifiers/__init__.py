"""Models that judge finished rollouts: what they read, how they answer, and what they learn from."""
