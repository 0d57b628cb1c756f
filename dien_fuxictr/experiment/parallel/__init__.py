"""Several processes that train one model together, as if they were one.

Here is what they tell each other. What is trained, and what starts them, is above.
"""
