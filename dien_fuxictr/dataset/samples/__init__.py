"""Raw files -> labelled samples: sources, protocols, negatives, time tokens, the audit of what trivial rules score."""
