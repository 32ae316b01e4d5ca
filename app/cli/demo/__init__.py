"""`bucketpost demo`: proves the promises on this machine, with real parts, and prints each as it happens."""

from app.cli.demo.command import demo

__all__ = ["demo"]
