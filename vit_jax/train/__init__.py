"""How a model learns: task, optimizer, state, step, and the loop."""
