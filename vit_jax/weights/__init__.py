"""Weights from elsewhere into our tree."""
