"""The agent at work: which tasks a step practises on, and tasks -> groups of graded rollouts."""
