"""What runs INSIDE the sandbox: standard library only, synchronous, Python 3.8+ syntax."""
