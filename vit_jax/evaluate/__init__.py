"""Evaluations: what is judged, on which data, and by which method."""
