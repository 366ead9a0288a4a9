"""The nouns. Frozen dataclasses, limits, the error tree. No I/O and no vendor's word: docs/explain/words.md."""
