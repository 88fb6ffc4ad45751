"""One description of a job, and a renderer for each target that can run it."""
