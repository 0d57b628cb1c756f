"""Run many experiments: sweeps, comparisons over seeds, pictures of models.

There is one folder per kind, each with its command line in `cli`; `runs` is what they share. These folders start runs
and read their reports; a single run is trained in `experiment`.
"""
