"""Where a run runs: meshes and the rules that shard a tree over them."""
