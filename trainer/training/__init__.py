"""The parts of a training step beside sampling: update, checkpoint, equipment, and the ranks that follow."""
