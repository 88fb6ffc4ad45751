"""vit_jax: Vision Transformers in JAX, from one laptop command to accelerator pods.

The dimension legend. Array names end in their shape, and einsum letters reuse it:

    B batch    H W C image    N tokens    D width    A heads    E head dim
    F mlp      L layers       K classes   P patch    S T source and target length    V vocabulary

A digit stands for itself: `qkv_BN3AE`.
"""

__version__ = '0.1.0'
