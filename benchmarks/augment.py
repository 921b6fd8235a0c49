"""What does augmentation cost, in which form, and beside a training step?

    python benchmarks/augment.py [--batch 64] [--size 32] [--repeats 9] [--step] [--step-batch 64]

Times every form of the geometric resampling that was tried, in turn, and the whole of
`augment.augment` with EDM's settings, and prints medians and ratios to the form in use:
  padding       the published form: reflect-padded images, convolutions, a general interpolation
  polyphase     doubling by sums of shifted images instead of matrix products, then the gather
  weight rows   a table of interpolation weights looked up per point, then matrix products
  products      hat functions of the positions times matrices, no gather: the form on TPUs
  fired only    the form in use, in chunks of eight, for those images that are to move at all
--step also times a full-width CIFAR-10 DDPM++ training step (55.7 M parameters; minutes on
two cores, so --step-batch may be smaller) and prints the share of augmentation per image.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import augment, model, networks, objectives
from edm_jax.augment import affine

HIGHEST = jax.lax.Precision.HIGHEST


def halved(looked_up, images):
    """The last stage of `affine.resample`."""
    height, width = images.shape[1:3]
    down = affine._down(affine._halving(height), looked_up)
    return affine._across(down, affine._halving(width))


def gather(images, linear, shift):
    places = affine._positions(linear, shift, *images.shape[1:3])
    return halved(affine.lookup_by_gather(images, *places), images)


def products(images, linear, shift):
    places = affine._positions(linear, shift, *images.shape[1:3])
    return halved(affine.lookup_by_products(images, *places), images)


def weight_rows(images, linear, shift):
    x, y = affine._positions(linear, shift, *images.shape[1:3])

    def weights(position, size):
        table = jnp.asarray(affine._doubling(size))
        start = jnp.floor(position)
        share, start = (position - start)[..., None], start.astype(int)
        return table[start] * (1 - share) + table[start + 1] * share

    down, across = weights(y, images.shape[1]), weights(x, images.shape[2])
    columns = jnp.einsum("bqpi,bijc->bqpjc", down, images, precision=HIGHEST)
    return halved(jnp.sum(columns * across[..., None], axis=3), images)


def padding(images, linear, shift):
    batch, height, width, channels = images.shape
    x, y = affine._positions(linear, shift, height, width)
    x, y = x - 1, y - 1  # no zero row before the doubled image here
    taps = np.float32(affine.SYM6)

    def convolve(planes, kernel, **arguments):
        return jax.lax.conv_general_dilated(
            planes, kernel, precision=HIGHEST, **{"window_strides": (1, 1), **arguments}
        )

    planes = jnp.moveaxis(images, 3, 1).reshape(batch * channels, 1, height, width)
    planes = jnp.pad(planes, ((0, 0), (0, 0), (height - 1,) * 2, (width - 1,) * 2), mode="reflect")
    row, column = taps.reshape(1, 1, 1, -1), taps.reshape(1, 1, -1, 1)
    planes = convolve(planes, row[..., ::-1], padding=((0, 0), (6, 6)), lhs_dilation=(1, 2))
    planes = convolve(planes, column[:, :, ::-1], padding=((6, 6), (0, 0)), lhs_dilation=(2, 1))
    planes = planes.reshape(batch, channels, *planes.shape[2:])

    def lookup(plane, x, y):
        return jax.scipy.ndimage.map_coordinates(plane, [y, x], order=1)

    planes = jax.vmap(jax.vmap(lookup, (0, None, None)))(planes, x, y)
    planes = planes.reshape(batch * channels, 1, *planes.shape[2:])
    planes = convolve(planes, row, padding=((0, 0), (5, 5)), window_strides=(1, 2))
    planes = convolve(planes, column, padding=((5, 5), (0, 0)), window_strides=(2, 1))
    border = affine.BORDER
    planes = planes[:, :, border:-border, border:-border]
    return jnp.moveaxis(planes.reshape(batch, channels, height, width), 1, 3)


def polyphase(images, linear, shift):
    height, width = images.shape[1:3]
    x, y = affine._positions(linear, shift, height, width)

    def doubled(a, axis):
        size = a.shape[axis]
        padded = 3 * size - 2
        a = jnp.take(a, affine.reflect(np.arange(padded) - (size - 1), size), axis)
        a = jnp.pad(a, [(3, 3) if i == axis else (0, 0) for i in range(a.ndim)])

        def phase(taps, offset):
            shifted = (
                jax.lax.slice_in_dim(a, offset - k, offset - k + padded, axis=axis)
                for k in range(len(taps))
            )
            return sum(tap * part for tap, part in zip(taps, shifted))

        even, odd = phase(affine.SYM6[1::2], 5), phase(affine.SYM6[::2], 6)
        shape = list(even.shape)
        shape[axis] *= 2
        a = jnp.stack([even, odd], axis + 1).reshape(shape)
        return jnp.pad(a, [(1, 2) if i == axis else (0, 0) for i in range(a.ndim)])

    image = doubled(doubled(images, 2), 1)
    left, top = jnp.floor(x), jnp.floor(y)
    right, bottom = (x - left)[..., None], (y - top)[..., None]
    left, top = left.astype(int), top.astype(int)
    sample = jnp.arange(len(images))[:, None, None]

    def row(top):
        return image[sample, top, left] * (1 - right) + image[sample, top, left + 1] * right

    return halved(row(top) * (1 - bottom) + row(top + 1) * bottom, images)


def fired_only(images, linear, shift, chunk=8):
    batch = len(images)
    still = jnp.all(linear == jnp.eye(2), (1, 2)) & jnp.all(shift == 0, 1)
    order = jnp.nonzero(~still, size=-(-batch // chunk) * chunk, fill_value=batch)[0]

    def move(index, images):
        place = jax.lax.dynamic_slice(order, (index * chunk,), (chunk,))
        inside = jnp.minimum(place, batch - 1)
        moved = gather(images[inside], linear[inside], shift[inside])
        return images.at[place].set(moved, mode="drop")

    return jax.lax.fori_loop(0, -(-jnp.sum(~still) // chunk), move, images)


FORMS = {
    "gather (in use)": gather,
    "padding": padding,
    "polyphase": polyphase,
    "weight rows": weight_rows,
    "products (TPU)": products,
    "fired only": fired_only,
}


def medians(calls, repeats):
    """Median seconds of each call, the calls taking turns; the first round only compiles."""
    times = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def training_step(batch):
    """A call that takes the gradient of a full-width DDPM++ and an SGD step; no augmentation."""
    net = model.Model.init(jax.random.key(0), networks.ddpmpp(augment_dim=9))
    keys = jax.random.split(jax.random.key(1), batch)
    images = jax.random.normal(jax.random.key(2), (batch, *net.image_shape))
    sigma = jnp.exp(jax.random.normal(jax.random.key(3), (batch,)) * 1.2 - 1.2)
    weight = lambda sigma: (sigma**2 + 0.25) / (sigma * 0.5) ** 2

    @jax.jit
    def step(params, images, noise):
        def loss(params):
            denoise = net.replace(params=params).denoiser(None, jnp.zeros((batch, 9)), keys)
            return objectives.loss(denoise, images, sigma, noise, weight).mean()

        return jax.tree.map(lambda p, g: p - 1e-4 * g, params, jax.grad(loss)(params))

    noise = jax.random.normal(jax.random.key(4), images.shape)
    return lambda: step(net.params, images, noise)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--step", action="store_true", help="also time a DDPM++ training step")
    parser.add_argument("--step-batch", type=int, default=64)
    args = parser.parse_args()

    settings = augment.edm(0.12)
    keys = jax.random.split(jax.random.key(0), args.batch)
    shape = (args.batch, args.size, args.size, 3)
    images = jax.random.uniform(jax.random.key(1), shape, minval=-1.0, maxval=1.0)
    drawn = augment.draw(keys, settings)
    places = augment.inverse_map(drawn, args.size, args.size, settings=settings)

    jitted = {name: jax.jit(form) for name, form in FORMS.items()}
    expected = jitted["gather (in use)"](images, *places)
    calls = {name: lambda f=f: f(images, *places) for name, f in jitted.items()}
    everything = jax.jit(lambda keys, images: augment.augment(keys, images, settings))
    calls["augment, all of it"] = lambda: everything(keys, images)
    seconds = medians(calls, args.repeats)
    unit = seconds["gather (in use)"]
    print(f"batch {args.batch} of {args.size}x{args.size}x3, {jax.devices()[0].device_kind}")
    print(f"{'':20}{'ms':>10}{'ratio':>9}{'differs by':>13}")
    for name, value in seconds.items():
        apart = float(abs(jitted[name](images, *places) - expected).max()) if name in jitted else 0
        print(f"{name:20}{1e3 * value:10.2f}{value / unit:9.2f}{apart:13.1e}")

    if args.step:
        step = medians({"step": training_step(args.step_batch)}, 2)["step"]
        share = seconds["augment, all of it"] / args.batch / (step / args.step_batch)
        print(f"DDPM++ training step, batch {args.step_batch}: {step:.3f} s")
        print(f"augmentation's share of it, per image: {100 * share:.3f} %")


if __name__ == "__main__":
    main()
