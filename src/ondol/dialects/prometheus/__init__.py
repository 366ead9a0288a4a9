"""Prometheus: `/metrics` on the public port."""
