"""A package: what its fixtures set in this process ends with its last test."""
