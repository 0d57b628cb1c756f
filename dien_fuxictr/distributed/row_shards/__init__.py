"""`embedding_sharding: rows`: embedding tables larger than a device, of which each process holds some rows.

Here is how a model is built without whole tables, how rows get their first values, how a look-up finds them, and how
they get to files and back. Training reaches all of it by the interface `WeightStore`.

Not run yet: processes on GPUs, or on several machines. Tests run gloo, on the CPU of one machine.
"""
