"""The console commands with a small network in place of U-Nets: small_command.py train …"""

import sys

import pytest
from small_network import instead_of_unets

from edm_jax.cli.main import main

if __name__ == "__main__":
    instead_of_unets(pytest.MonkeyPatch())
    sys.exit(main(sys.argv[1:]))
