"""The names and shapes of guided-diffusion's networks, and files of them."""

import collections
import io
import zipfile

import official_pickles as official


def shapes(width, mults, num_blocks, attention, classes):
    """Names and shapes of a state dict, in the order in which the modules are made."""
    found, emb = {}, 4 * width
    widths = [int(mult * width) for mult in mults]

    def affine(name, *shape):
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    def res(name, inputs, outputs):
        found[f"{name}.in_layers.0.weight"] = found[f"{name}.in_layers.0.bias"] = (inputs,)
        affine(f"{name}.in_layers.2", outputs, inputs, 3, 3)
        affine(f"{name}.emb_layers.1", 2 * outputs, emb)
        found[f"{name}.out_layers.0.weight"] = found[f"{name}.out_layers.0.bias"] = (outputs,)
        affine(f"{name}.out_layers.3", outputs, outputs, 3, 3)
        if inputs != outputs:
            affine(f"{name}.skip_connection", outputs, inputs, 1, 1)

    def attend(name, channels):
        found[f"{name}.norm.weight"] = found[f"{name}.norm.bias"] = (channels,)
        affine(f"{name}.qkv", 3 * channels, channels, 1)
        affine(f"{name}.proj_out", channels, channels, 1)

    affine("time_embed.0", emb, width)
    affine("time_embed.2", emb, emb)
    found["label_emb.weight"] = (classes, emb)
    channels = widths[0]
    affine("input_blocks.0.0", channels, 3, 3, 3)
    stack, number = [channels], 1
    for level, features in enumerate(widths):
        for _ in range(num_blocks):
            res(f"input_blocks.{number}.0", channels, features)
            channels = features
            if level in attention:
                attend(f"input_blocks.{number}.1", channels)
            stack.append(channels)
            number += 1
        if level + 1 < len(mults):
            res(f"input_blocks.{number}.0", channels, channels)
            stack.append(channels)
            number += 1
    res("middle_block.0", channels, channels)
    attend("middle_block.1", channels)
    res("middle_block.2", channels, channels)
    number = 0
    for level in reversed(range(len(mults))):
        for i in range(num_blocks + 1):
            res(f"output_blocks.{number}.0", channels + stack.pop(), widths[level])
            channels = widths[level]
            if level in attention:
                attend(f"output_blocks.{number}.1", channels)
            if level and i == num_blocks:
                res(f"output_blocks.{number}.{1 + (level in attention)}", channels, channels)
            number += 1
    found["out.0.weight"] = found["out.0.bias"] = (channels,)
    affine("out.2", 6, channels, 3, 3)
    return found


def archive(weights, compress=zipfile.ZIP_STORED):
    """A zip file as torch.save writes state dicts."""
    stream, records = io.BytesIO(), {}
    kind, nothing = official.Named("torch", "FloatStorage"), collections.OrderedDict()
    with zipfile.ZipFile(stream, "w", compress) as file:
        for i, (name, value) in enumerate(weights.items()):
            stored = official.Stored(("storage", kind, str(i), "cuda:0", value.size))
            strides = tuple(s // 4 for s in value.strides)
            parts = (stored, 0, value.shape, strides, False, nothing)
            records[name] = official.Made(official.TENSOR, parts)
            file.writestr(f"x/data/{i}", value.tobytes())
        file.writestr("x/data.pkl", official.dumps(records, 2))
        file.writestr("x/version", "3\n")
    return stream.getvalue()
