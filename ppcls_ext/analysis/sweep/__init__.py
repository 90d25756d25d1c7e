"""What becomes of models at other image sizes than their own: accuracy, speed, memory, multiply-adds.

``measuring`` asks every model at every size, ``subject`` is what the benchmark's processes time, ``results`` holds the
figures, ``tables`` and ``picture`` show them.
"""
