"""ONNX: a model as a graph that other engines run.

The graph is written here, operator by operator, from the program that Paddle traces. paddle2onnx was the alternative:
it has no wheel for Python 3.13 and one release line for each Paddle, installs packages in mid-export, reads double
attributes as garbage, took minutes for a graph with many small operators, and its graphs would still have to be
rewritten. Both versions of Paddle give a program in PIR, so that one table of short translations does.

The way of a model: ``tracing`` -> ``conversion`` with ``operators`` into a ``graph``, whose ``sizes`` are formulas ->
``rewriting`` -> ``serialization``; ``writing`` compares the file with the model.
"""
