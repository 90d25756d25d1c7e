"""Features of images and what their distances tell: nearest neighbours, k-NN accuracy, a map of the classes.

``features`` computes them, ``content`` is the file that holds them, ``neighbours`` compares, ``picture`` draws.
"""
