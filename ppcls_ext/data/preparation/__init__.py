"""From a user's images to a data set: reading, looking at every image, splitting, writing lists."""
