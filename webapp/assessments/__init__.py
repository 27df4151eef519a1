"""The `assessments` app: what is done over the rollouts of an evaluation that has ended."""
