"""Which pixels the centre of a stage's map really depends on: effective receptive fields (arXiv 1701.04128).

``stages`` finds the maps, ``field`` takes the gradients, ``areas`` turns a field into numbers, ``session`` goes through
models and images, ``picture`` shows them side by side.
"""
