"""The networks: SongUNet (DDPM++, NCSN++), DhariwalUNet (ADM), EDM2UNet; a classifier."""

from edm_jax.networks.classifier import Classifier as Classifier
from edm_jax.networks.config import ARCHITECTURES as ARCHITECTURES
from edm_jax.networks.config import ClassifierConfig as ClassifierConfig
from edm_jax.networks.config import DhariwalConfig as DhariwalConfig
from edm_jax.networks.config import EDM2Config as EDM2Config
from edm_jax.networks.config import ModelConfig as ModelConfig
from edm_jax.networks.config import SongConfig as SongConfig
from edm_jax.networks.config import adm as adm
from edm_jax.networks.config import ddpmpp as ddpmpp
from edm_jax.networks.config import edm2 as edm2
from edm_jax.networks.config import ncsnpp as ncsnpp
from edm_jax.networks.dhariwal import DhariwalUNet as DhariwalUNet
from edm_jax.networks.edm2 import EDM2UNet as EDM2UNet
from edm_jax.networks.song import SongUNet as SongUNet
