"""Programs that XLA compiles in a third of the time."""

import jax


def compiled(function, **options):
    """`jax.jit` without optimisation, for what is evaluated or differentiated forward.

    Compiling is most of a small network's time. Not for gradients: at this level XLA gives wrong
    ones now and then.
    """
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"}, **options)
