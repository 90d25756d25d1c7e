"""Fixtures of the data tests."""

import pytest
from data_helpers import ImageSet


@pytest.fixture
def image_set(tmp_path):
    """Twenty-two images."""
    return ImageSet(tmp_path, 22)
