"""From stored images to batches: sources, views, decoding, loading, augmentation, our data sets."""
