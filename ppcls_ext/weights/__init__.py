"""Weights: reading files as data, and loading them into models strictly."""
