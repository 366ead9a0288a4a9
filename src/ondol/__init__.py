"""Ondol: a serverless function platform on your own machines. docs/explain/architecture.md is the way in."""

__version__ = "0.1.0"
