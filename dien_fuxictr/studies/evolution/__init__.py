"""Figure 3 of the DIEN paper for a trained model: how a user's interest evolves towards candidate items."""
