"""Make labelled samples of raw reviews or a log of behaviours.

The package has the sources, the protocols that split and label, the negatives, time tokens, the files of a build, and
the audit by trivial rules. Ids are still words here; nothing is encoded or batched.
"""
