"""Reports of predictions: figures, pictures and a page of one model, or of two on the same images.

Each module is one idea: what is computed (``figures``, ``calibration``, ``comparison``), what is shown of it
(``pictures``, ``thumbnails``, ``page``) and the two reports (``single``, ``paired``). None needs Paddle.
"""
