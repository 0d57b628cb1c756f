"""Figure 3 of the DIEN paper for a trained model: the second layer's states and its attention, for one user."""
