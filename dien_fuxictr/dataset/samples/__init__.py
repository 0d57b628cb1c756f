"""Raw reviews or a log of behaviours -> labelled samples.

Here are the sources, the protocols that split and label, the negatives, time tokens, what a build writes, and the
audit of what trivial rules score. Ids are words still: nothing here encodes or batches.
"""
