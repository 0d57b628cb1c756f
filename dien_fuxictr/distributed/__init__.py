"""Train one model in several processes, and run jobs side by side.

The package has the launchers, data parallelism, and Ray for trainings and for runs. The work of one process, and the
interface by which training reaches several, is in `experiment`, which imports this package only from its command line,
and for row shards from `Experiment`.
"""
