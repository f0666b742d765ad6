"""The parent's side of the wall around a run: its folder, its process and its limits, and what it used.

`services.processor.child` is the other side. What comes from there was written by a run, and is trusted in nothing.
"""
