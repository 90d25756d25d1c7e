"""Deployment: export, exported graphs, and prediction with them."""
