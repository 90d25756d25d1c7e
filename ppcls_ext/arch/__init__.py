"""Network architectures: backbones, one file per family, and the layers that several families share."""
