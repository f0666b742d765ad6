"""The run's side of the wall: what happens in the process of a run, which imports `gristmill` alone.

`main` confines the process, decodes the input and calls the processor. `services.processor.sandbox` started it.
"""
