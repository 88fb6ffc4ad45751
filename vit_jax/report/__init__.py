"""What a run left behind, made visible. Reads files only; imports nothing that trains."""
