"""The console commands with a small network in place of U-Nets: small_command.py train …"""

import sys
import types

from small_network import instead_of_unets

from edm_jax.cli.main import main

if __name__ == "__main__":
    instead_of_unets(types.SimpleNamespace(setattr=setattr))
    sys.exit(main(sys.argv[1:]))
