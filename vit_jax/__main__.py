"""`python -m vit_jax` is `vit_jax`."""

import sys

from vit_jax.commands import main

sys.exit(main())
