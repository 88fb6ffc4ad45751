"""Where a run runs: chips, meshes, the rules that shard a tree over them, and its processes."""
