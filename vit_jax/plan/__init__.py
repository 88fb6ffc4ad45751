"""What a run would need on chips that are not here: `vit_jax plan`."""
