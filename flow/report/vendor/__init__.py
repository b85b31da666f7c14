"""Vendor tools' reports read into one form (`synthesis.py`): a file per family of tools, and
`folder.py`, which reads a folder that was synthesized anywhere."""
