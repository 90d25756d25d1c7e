"""The runs that tests of this folder share."""

from training_runs import digits, new_runs, runs, trained  # noqa: F401  # fixtures
