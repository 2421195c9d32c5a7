"""What it costs: commands that measure, each writing a JSON list of rows. Run from the repository root."""
