"""Commands that measure time, memory and accuracy; each adds rows to a JSON file. Run them from the repository root."""
