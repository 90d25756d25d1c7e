"""An HTTP service in front of an exported model."""
