"""A real process is killed at random moments and started again, and what it promised is held against what it kept.

SIGKILL ends a process, not the machine: what it wrote is in the kernel's page cache, synced or not. So this shows that nothing
is acknowledged before it is written, but not that anything is on the disk: commenting out an fdatasync changes nothing here.
That a sync comes before the acknowledgement is shown by `test_syncs.py`; a loss of power itself is untested.
"""
