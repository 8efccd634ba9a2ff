"""The promise of a drop-in: programs change the import line, and what used to hang ends with a clear error."""
