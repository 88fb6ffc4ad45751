"""From stored images to batches: sources, decode, loader, augment, and our own data sets."""
