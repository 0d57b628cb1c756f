"""Many runs: sweeps over hyper-parameters, comparisons over seeds, pictures of trained models.

A folder per kind, each with its command line in `cli`; `runs` is what they share. These folders start runs and read
their reports; how one run trains is in `experiment`.
"""
