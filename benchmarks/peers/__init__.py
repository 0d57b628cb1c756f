"""DIEN of other projects, at the sizes of `benchmarks.made`; each is imported when it is built."""
