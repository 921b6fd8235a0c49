"""ImageNet, 512×512, class-conditional, EDM2 (Karras et al. 2024, Table 6): FID 2.56 to 1.91.

    configs/imagenet512_edm2.py:s            size XXS, XS, S (default), M, L, XL or XXL
    configs/imagenet512_edm2.py:xs-uncond    without labels: the guide of classifier-free guidance

The network sees latents of 64×64 pixels and four channels. The data are the means and deviations
that the encoder stabilityai/sd-vae-ft-mse gives for pixels in [0, 1], centre crops of 512×512, as
.npy files float32 [8, 64, 64], in a folder with dataset.json; drawn anew at each use:
    edm-jax dataset --source latents/ --dest data/imagenet512-latents.zip

Published time: S 2,048 Mi images (1,048,576 steps of 2,048) on 32 A100. The authors trained in
float16; here the network computes in bfloat16 (--config.model.dtype=float16 for theirs).
One GPU, in parts of 16, and eight, in parts of 32 on each; --config.fsdp=True from size L on:
    python train.py --config configs/imagenet512_edm2.py:s --workdir runs/imagenet512 \\
        --config.microbatch=16
    python train.py --config configs/imagenet512_edm2.py:s --workdir runs/imagenet512 \\
        --config.microbatch=32
A TPU pod slice, the same command on every host, the state spread over the devices:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/imagenet512_edm2.py:s --workdir gs://BUCKET/imagenet512 --config.fsdp=True"

Afterwards, the width of the published FID (docs/weights.md has those of all sizes), and latents,
or images by a decoder of your own:
    edm-jax ema runs/imagenet512 models/s-fid --std 0.13
    python sample.py --checkpoint runs/imagenet512 --seeds 0-49999 --out samples/imagenet512 \\
        --solver heun --steps 32
"""

from edm_jax.networks import edm2
from edm_jax.training.config import Config, DataConfig, LossConfig, choices

# width, learning rate, dropout
SIZES = {
    "xxs": (64, 0.0170, 0.0),
    "xs": (128, 0.0120, 0.0),
    "s": (192, 0.0100, 0.0),
    "m": (256, 0.0090, 0.10),
    "l": (320, 0.0080, 0.10),
    "xl": (384, 0.0070, 0.10),
    "xxl": (448, 0.0065, 0.10),
}
MI = 2**20 / 1000  # 2**20 images, in kimg
DURATIONS = {"xxs": 2048, "xs": 2048, "s": 2048, "m": 2048, "l": 1792, "xl": 1280, "xxl": 896}


def of_size(size: str, duration: int, *, conditional: bool) -> Config:
    """What the runs of both resolutions share; the duration counts 2**20 images."""
    channels, rate, dropout = SIZES[size]
    return Config(
        model=edm2(channels=4, model_channels=channels, dropout=dropout, dtype="bfloat16"),
        data=DataConfig(archive="data/imagenet512-latents.zip", conditional=conditional),
        loss=LossConfig("edm", {"p_mean": -0.4, "p_std": 1.0}, uncertainty=True),
        duration_kimg=duration * MI,
        batch_size=2048,
        learning_rate=rate,
        rampup_kimg=10_000.0,
        decay_steps=70_000.0,
        adam_b2=0.99,
        infinite_gradient=0.0,
        ema_std=0.10,
        ema_power=(0.05,),
        ema_snapshot_kimg=8 * MI,
        augment=0.0,
        log_kimg=MI / 8,
        sample_kimg=0.0,
        sample_steps=32,
        checkpoint_kimg=128 * MI,
    )


def get_config(argument: str = "") -> Config:
    """A size, and whether with labels: "s", "xs-uncond"."""
    sizes = ("s", *(name for name in DURATIONS if name != "s"))
    size, labels = choices(argument, sizes, ("cond", "uncond"))
    return of_size(size, DURATIONS[size], conditional=labels == "cond")
