"""Train, compare and serve Deep Interest Evolution in the CTR model zoo FuxiCTR.

One floor a folder, and imports go down only: `common` < `dataset` < `experiment` < `studies`. The models are in
`model_zoo/` beside this package and import none of it.
"""
