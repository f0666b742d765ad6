"""Imported first by the fork server, and by nobody else, for what it does to the process that imports it.

When a service or a terminal stops, all its processes are sent the signal at once. The fork server has to outlive that,
for runs may still end in the drain time, and they end with it. It goes when the processor does.

What takes each run's process long to make is made here, before the fork.
"""

import contextlib
import os
import signal
from itertools import product

from services.processor.child import calls

for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(_number, signal.SIG_IGN)
with contextlib.suppress(PermissionError):  # it leads a session already
    os.setsid()
with contextlib.suppress(OSError):
    for _network, _programs in product((False, True), repeat=2):
        calls.program(network=_network, programs=_programs)
