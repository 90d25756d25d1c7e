"""What is known of a model without training it: cost, tables for the documentation."""
