"""Many runs: sweeps of hyper-parameters, comparisons over seeds, pictures of trained models.

A folder a kind of study, each with its command line in `cli`; `runs` is what they share. Studies start runs and read
their reports: how one run trains is in `experiment`.
"""
