"""What a served score costs: paths of the scorer, HTTP around it, and a server under load."""
