"""Figure 3 of the DIEN paper for a trained model: how a user's interest evolves towards candidate items.

Here are the choice of user and candidates, and the page that draws them; what is traced in the model is `experiment`'s.
"""
