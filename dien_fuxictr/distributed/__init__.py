"""What several processes need: to train one model together, as if they were one, and to run jobs side by side.

Here are the launchers, data parallelism, and Ray for trainings and for runs. What one process does, and the interface
by which training reaches several, is below, in `experiment`. That reaches up to this floor from its command line, and
for row shards from `Experiment`, nowhere else.
"""
