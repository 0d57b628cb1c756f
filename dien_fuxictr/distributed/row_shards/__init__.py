"""`embedding_sharding: rows`: each process stores some rows of embedding tables.

Tables may then be larger than a device. The package builds a model without whole tables, initialises rows, finds them
in a look-up, and moves them to files and back. Training uses all of it by the interface `WeightStore`.

Not run yet: processes on GPUs, or on several machines. Tests run gloo, on the CPU of one machine.
"""
