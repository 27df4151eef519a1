"""What samples: token ids in, token ids and log-probabilities out, and how new weights get there."""
