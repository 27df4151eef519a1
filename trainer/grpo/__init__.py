"""The algorithm: graded rollouts -> advantages, the objective, and the rows of tokens that a model is run over."""
