"""Configurations for a user's own data: rules that choose the values, and the YAML file that says why."""
