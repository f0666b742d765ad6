"""What the Linux kernel offers to confine a process. Nothing here knows of runs."""
