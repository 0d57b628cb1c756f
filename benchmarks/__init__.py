"""Programs that measure, each run as `python -m benchmarks.NAME`.

None of them asserts a time.
"""
