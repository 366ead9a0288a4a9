"""The wiring of a node: which implementation stands behind which port, in which process; no other package names one.

A page for each process, `front.py` and `desk.py`, and `shared.py` for what both have to know alike. The supervisor (`start.py`)
starts one of each, as `python -m ondol.app ROLE`. Nothing is registered by being imported.
"""
