"""How near do restored images come to images that the model has not seen?

    python benchmarks/held_out.py runs/data
    python train.py --config configs/digits.py --config.data.archive=runs/data/seen.zip \\
        --workdir runs/held_out
    python benchmarks/restore.py --checkpoint runs/held_out --data runs/data/held_out.zip \\
        --seen runs/data/seen.zip --out restored

or any other model, with --data of images that it was not trained on and --seen of those that it
was. For each task PSNR, in decibels, of: the mean of the seen images; the seen image whose
measurement is nearest; the exact posterior mean, were the images Gaussian with the mean and
covariance of the seen ones; a draw; and the mean of the draws. What `restore` wrote stays in --out,
and a run that was stopped goes on.
"""

import argparse
import json
import pathlib

import jax.numpy as jnp
import numpy as np

import edm_jax
from edm_jax import generation
from edm_jax.cli import restore, restore_folder
from edm_jax.cli.main import main as command
from edm_jax.cli.options import Parser
from edm_jax.data import archive

# name -> options of the command
TASKS = {
    "inpaint": ["--task=inpaint"],
    "inpaint-half": ["--task=inpaint", "--task-option=share=0.5"],
    "super-resolve": ["--task=super-resolve"],
    "deblur": ["--task=deblur"],
    "colorize": ["--task=colorize"],
}
METHODS = {
    "mmps": ["--method=mmps"],
    "steps.ddrm, 100 steps": ["--method=steps.ddrm", "--steps=100"],
}
LARGEST = 4096  # numbers in an image, for the covariance


def baselines(problem, truth, places, seen):
    """name -> PSNR of each image.

    Args:
      problem: the measurement.
      truth: float32 [n, H, W, C] in [-1, 1].
      places: [n] of them in their data set.
      seen: float32 [N, H, W, C] likewise.
    """
    y = np.asarray(generation.measure(problem, jnp.asarray(truth), jnp.asarray(places)))
    flat = lambda a: np.asarray(a, np.float64).reshape(len(a), -1)
    known, rows = flat(y), flat(seen)
    mean = rows.mean(0)
    images = {"the mean image": np.broadcast_to(mean, (len(y), mean.size))}
    parts = np.array_split(seen, 1 + len(seen) // 500)
    measured = np.concatenate([flat(problem.operator(jnp.asarray(part))) for part in parts])
    distances = [((measured - one) ** 2).sum(1) for one in known]
    images["the nearest seen"] = rows[np.argmin(distances, axis=1)]
    if mean.size <= LARGEST:
        eye = np.eye(mean.size, dtype=np.float32).reshape(-1, *truth.shape[1:])
        matrix = flat(problem.operator(jnp.asarray(eye))).T
        covariance = np.cov(rows.T)
        both = matrix @ covariance @ matrix.T + (problem.sigma_y**2 + 1e-6) * np.eye(len(matrix))
        gain = np.linalg.solve(both, matrix @ covariance).T
        images["Gaussian data"] = mean + (known - mean @ matrix.T) @ gain.T
    psnr, _ = restore_folder.metrics()
    bytes_of = lambda a: np.clip(np.round(flat(a) * 127.5 + 127.5), 0, 255)
    right = bytes_of(truth)
    return {name: [psnr(*pair) for pair in zip(right, bytes_of(a))] for name, a in images.items()}


def main() -> None:
    """Prints a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True, help="images that the model has not seen")
    parser.add_argument("--seen", required=True, help="those that it was trained on")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--num", type=int, default=64)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--label", default="none")
    parser.add_argument("--tasks", default="inpaint,super-resolve", help=", ".join(TASKS))
    args = parser.parse_args()

    model = edm_jax.load(args.checkpoint)
    seen = np.asarray(archive.load(args.seen, labels=False).images, np.float32) / 127.5 - 1
    data = archive.load(args.data, labels=False)
    options = Parser()
    restore.add_arguments(options)
    print("| task | PSNR of | dB | SSIM |\n|---|---|---|---|")
    for task in args.tasks.split(","):
        for method, chosen in METHODS.items():
            out = args.out / f"{task}-{method}".replace(",", "").replace(" ", "-")
            same = [
                f"--checkpoint={args.checkpoint}",
                f"--data={args.data}",
                f"--label={args.label}",
            ]
            words = [*same, *TASKS[task], *chosen, f"--out={out}"]
            words += [f"--num={args.num}", f"--draws={args.draws}"]
            if code := command(["restore", *words]):
                raise SystemExit(code)
            record = json.loads((out / restore_folder.RECORD).read_text())
            if method == next(iter(METHODS)):
                places = [row["image"] for row in record["images"]]
                truth = np.asarray(data.images[places], np.float32) / 127.5 - 1
                problem, _ = restore.make_problem(options.parse_args(words), model)
                for name, scores in baselines(problem, truth, places, seen).items():
                    print(f"| {task} | {name} | {np.mean(scores):.2f} | |", flush=True)
            found = record["average"]
            for name, score in (("a draw", ""), ("the mean of the draws", "_of_mean")):
                row = f"{found[f'psnr{score}']:.2f} | {found[f'ssim{score}']:.3f}"
                print(f"| {task} | {method}: {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
