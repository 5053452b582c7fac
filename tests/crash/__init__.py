"""A real process is killed at random moments and started again; then what it promised is compared with what it kept.

SIGKILL ends a process, not the machine: what it wrote is in the kernel's page cache, synced or not. So this shows that nothing
is acknowledged before it is written, but not that anything is on the disk: a missing sync changes nothing here. `test_syncs.py`
shows that a sync comes before the acknowledgement. A power failure itself is not tested.
"""
