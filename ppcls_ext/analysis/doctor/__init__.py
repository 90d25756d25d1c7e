"""What to run first on a machine that nobody here had: does everything compute there what it computes here?"""
