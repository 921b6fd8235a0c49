"""The networks of the paper: SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM)."""

from edm_jax.networks.dhariwal import DhariwalUNet as DhariwalUNet
from edm_jax.networks.song import SongUNet as SongUNet
