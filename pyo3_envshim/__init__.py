"""Stable addresses for the build environments of PyO3 projects."""

__version__ = "0.2.0"
