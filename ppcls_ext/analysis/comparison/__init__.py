"""Backbones side by side: published accuracy, size and cost from the registry, speed and memory from a benchmark."""
