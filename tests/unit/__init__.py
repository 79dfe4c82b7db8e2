"""Unit tests: quick, and against real interpreters, environments, wheels and processes."""
