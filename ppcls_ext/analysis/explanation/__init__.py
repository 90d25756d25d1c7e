"""Why a network says what it says: maps of the pixels that speak for a class.

A method a file: ``gradcam``, ``integrated_gradients``, ``smoothgrad``, ``rollout`` look into the network; ``occlusion``
and ``lime`` ask a function from images to probabilities, so that they explain exported models too. ``faithfulness``
judges a map; ``study`` runs methods over models and images, ``pictures`` draws what they found.
"""
