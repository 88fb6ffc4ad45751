"""What a run would take on chips that are not here: `vit_jax plan`."""
