"""Draw Figure 3 of the DIEN paper for a trained model: evolution of interest.

The package chooses user and candidates, and draws their page; the trace of the model is in `experiment`.
"""
