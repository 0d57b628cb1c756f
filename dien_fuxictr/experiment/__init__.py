"""One run: configuration -> data -> model -> training -> checkpoint -> evaluation and prediction.

What needs several runs is in `studies`.
"""
