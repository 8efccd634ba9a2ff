"""The core: processes, channels, scheduling.  Private as a package; ``README.md`` beside this file is its map."""
