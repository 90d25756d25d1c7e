"""Reading pickles as data: what weights and datasets have in common, and nothing that runs what a file names."""
