"""`python -m edm_jax COMMAND …`: the same commands as `edm-jax`."""

import sys

from edm_jax.cli.main import main

sys.exit(main())
