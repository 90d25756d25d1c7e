"""The engine: configuration, training, evaluation, export and prediction."""
