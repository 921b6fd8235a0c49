"""Which packages there are; setup.cfg says everything else.

The configurations stand at the top of the repository. In a wheel they are edm_jax/shipped/configs,
so that a folder with no other package in it gives `configs` to those who import it.
"""

from setuptools import find_packages, setup

RUNS = "edm_jax.shipped.configs"

setup(packages=[*find_packages(include=["edm_jax*"]), RUNS], package_dir={RUNS: "configs"})
