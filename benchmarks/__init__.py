"""Programs that measure, each run as `python -m benchmarks.NAME`; none of them asserts a time."""
