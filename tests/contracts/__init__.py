"""What is held against others: one suite for all journals, and telstate against the releases of Daily's packages."""
