"""How fast is a model, by which engine, and how far from what the machine can do?

``targets`` says what a name on the command line means, ``plan`` makes the product of the options, ``preparation``
counts multiply-adds and exports, ``session`` runs everything: one child process for each configuration (``child`` is
the parent's end, ``worker`` the child's), asked in turns (``rounds``). What a child measures is a *subject*:
``eager``, ``exported`` or ``gemm``. ``results`` holds the figures, ``tables`` and ``pictures`` show them.
"""
