"""Attention of ViT, Swin and DilateFormer, brought back to places of the image; position embeddings and feature maps.

``geometry`` knows where the keys of a query lie, ``recording`` takes the probabilities out of a network, ``pictures``
draws, ``study`` does all for a command.
"""
