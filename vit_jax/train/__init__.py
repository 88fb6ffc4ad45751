"""How a model learns: losses, optimizer, task, state, step, checkpoints, and the loop."""
