"""DIEN of other projects, at the sizes of `benchmarks.synthetic_batches`; each is imported when it is built."""
