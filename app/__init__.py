"""Bucketpost: an async, self-hosted notification gateway for object-store events."""

__version__ = "0.1.0"
