"""One description of a job, and a renderer for each place it can run in."""
