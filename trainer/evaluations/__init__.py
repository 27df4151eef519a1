"""An evaluation's configuration, its rollouts and results, and what they say: estimates, comparisons, ways to choose."""
