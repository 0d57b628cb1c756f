"""A trained model that answers requests: one user and candidates in, scores out.

Here are the bundle (all that serving needs, in one folder), the form of a request, scoring and the HTTP server. Nothing
here trains or builds a data set.
"""
