"""Judges of frozen features: every evaluator eats `features_fn(images) -> features_BD`."""
