"""Writes streams with the structure of official snapshots, in pure Python.

The embedded source, if anything executed it, would create a file and raise.
"""

import collections
import io
import pickle
import struct
import zipfile

import numpy as np

SOURCE = "import pathlib\npathlib.Path({marker!r}).touch()\nraise SystemExit('executed')\n"
STORAGES = {"<f8": "DoubleStorage", "<f4": "FloatStorage", "<f2": "HalfStorage",
            "<i8": "LongStorage"}  # fmt: skip


class Named:
    """A global, written by its name alone."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise AssertionError("only pickled, never called")


class Made:
    """An object pickled as function(*arguments), or as a class and a state."""

    def __init__(self, function, arguments=(), state=None, new=False, items=None):
        self.function, self.arguments, self.state, self.new = function, arguments, state, new
        self.items = items


class Stored:
    """A storage outside the stream, with its persistent id."""

    def __init__(self, identity):
        self.identity = identity


class Pickler(pickle._Pickler):
    """The standard pickler, which also writes the three classes above."""

    def persistent_id(self, obj):
        return obj.identity if isinstance(obj, Stored) else None

    def save(self, obj, save_persistent_id=True):
        if not isinstance(obj, (Named, Made)):
            super().save(obj, save_persistent_id)
            return
        if id(obj) in self.memo:
            self.write(self.get(self.memo[id(obj)][0]))
        elif isinstance(obj, Named):
            if self.proto >= 4:
                self.save(obj.module)
                self.save(obj.name)
                self.write(pickle.STACK_GLOBAL)
            else:
                self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            self.memoize(obj)
        elif obj.new:
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.NEWOBJ)
            self.memoize(obj)
            if obj.items is not None:
                self._batch_setitems(obj.items.items())
                return
            self.save(obj.state)
            self.write(pickle.BUILD)
        else:
            self.save_reduce(obj.function, obj.arguments, obj.state, obj=obj)


def dumps(obj, protocol=4):
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(obj)
    return stream.getvalue()


PERSISTENT = Named("torch_utils.persistence", "_reconstruct_persistent_obj")
MODULE_DICT = Named("torch.nn.modules.container", "ModuleDict")
EASY_DICT = Named("dnnlib.util", "EasyDict")
PARAMETER = Named("torch._utils", "_rebuild_parameter")
TENSOR = Named("torch._utils", "_rebuild_tensor_v2")
FROM_BYTES = Named("torch.storage", "_load_from_bytes")
DTYPE = Named("numpy", "dtype")
SCALARS = {
    1: Named("numpy.core.multiarray", "scalar"),
    2: Named("numpy._core.multiarray", "scalar"),
}


def scalar(value, numpy=2):
    """A NumPy float64 scalar as NumPy 1 or 2 pickles it."""
    dtype = Made(DTYPE, ("f8", False, True), (3, "<", None, None, None, -1, -1, 0))
    return Made(SCALARS[numpy], (dtype, struct.pack("<d", value)))


def legacy(flat, kind=None, size=None, little_endian=True, saved=None):
    """The bytes of one storage: five pickles of protocol 2, a count, the raw numbers."""
    size = flat.size if size is None else size
    kind = kind or Named("torch", STORAGES[flat.dtype.str])
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": sizes}
    saved = saved or Stored(("storage", kind, "94742022348768", "cpu", size, None))
    parts = (0x1950A86A20F9469CFC6C, 1001, system, saved, ["94742022348768"])
    head = b"".join(dumps(part, 2) for part in parts)
    return head + struct.pack("<q", flat.size) + flat.tobytes()


def tensor(array, order="C", step=1, before=0, **storage):
    """A tensor whose storage is in C or Fortran order; `step` and `before` leave gaps in it."""
    flat = np.zeros(before + array.size * step, array.dtype)
    flat[before::step] = array.flatten(order)
    whole = np.empty(array.shape, array.dtype, order=order)
    strides = tuple(step * s // array.itemsize for s in whole.strides)
    return view(flat, before, array.shape, strides, **storage)


def view(flat, offset, sizes, strides, **storage):
    """A tensor with any offset, sizes and strides over a storage."""
    data = Made(FROM_BYTES, (legacy(flat, **storage),))
    return Made(TENSOR, (data, offset, sizes, strides, False, collections.OrderedDict()))


def parameter(record):
    return Made(PARAMETER, (record, True, collections.OrderedDict()))


def persistent(class_name, state, source="raise SystemExit('executed')\n"):
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name}
    return Made(PERSISTENT, ({**meta, "state": state},))


def module_state(parameters=(), buffers=(), modules=(), era="2.x", **attributes):
    """A module's __dict__: plain dictionaries in torch 2, ordered ones in 1.12."""
    kind = dict if era == "2.x" else collections.OrderedDict
    return {
        "training": False,
        "_parameters": kind(parameters),
        "_buffers": kind(buffers),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": collections.OrderedDict(),
        "_modules": kind(modules),
        **attributes,
    }


def network(weights, arguments, era="2.x", source="raise SystemExit('executed')\n"):
    """The wrapper object whose state dict is `weights`: names -> arrays, or records as they are."""
    arguments = dict(arguments)
    class_name = arguments.pop("class_name")
    numpy = 2 if era == "2.x" else 1

    def module(prefix, leaf_class, **attributes):
        own, children = {}, {}
        for name, value in weights.items():
            if name.startswith(prefix):
                first, _, rest = name[len(prefix) :].partition(".")
                (children if rest else own)[first] = value
        own = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in own.items()}
        buffers = {k: v for k, v in own.items() if k in ("resample_filter", "freqs", "phases", "u")}
        parameters = {k: parameter(v) for k, v in own.items() if k not in buffers}
        if "weight" in parameters:
            buffers.setdefault("resample_filter", None)
        modules = {}
        for name in children:
            path = f"{prefix}{name}."
            if name in ("enc", "dec"):
                modules[name] = module(path, MODULE_DICT)
            elif name in ("model", "unet"):
                kind = "UNet" if name == "unet" else arguments.get("model_type", "SongUNet")
                modules[name] = module(path, kind, map_label=None)
            else:
                init = {"init_weight": scalar(0.2**0.5, numpy)}
                modules[name] = module(path, "Conv2d", bias=None, _init_kwargs=init)
        state = module_state(parameters, buffers, modules, era, **attributes)
        if leaf_class is MODULE_DICT:
            return Made(MODULE_DICT, (), state, new=True)
        return persistent(leaf_class, state, source)

    attributes = {"img_resolution": arguments["img_resolution"], "use_fp16": False}
    return module("", class_name, **attributes, _init_args=(), _init_kwargs=arguments)


def easy_dict(**entries):
    """dnnlib's dictionary, whose entries come after the object."""
    return Made(EASY_DICT, (), new=True, items=entries)


def ndarray(values, numpy=2):
    """A NumPy array as NumPy 1 or 2 pickles it."""
    core = "_core" if numpy == 2 else "core"
    make = Named(f"numpy.{core}.multiarray", "_reconstruct")
    dtype = Made(DTYPE, ("f4", False, True), (3, "<", None, None, None, -1, -1, 0))
    state = (1, values.shape, dtype, False, values.astype("<f4").tobytes())
    return Made(make, (Named("numpy", "ndarray"), (0,), b"b"), state)


def edm2_snapshot(weights, arguments, era="2.x", marker="/nonexistent/marker"):
    """The bytes of a snapshot as the official EDM2 training writes it."""
    source = SOURCE.format(marker=str(marker))
    numpy = 2 if era == "2.x" else 1
    scale, bias = (ndarray(np.full(4, value, np.float32), numpy) for value in (0.1, -0.2))
    state = {"vae_name": "x", "scale": scale, "bias": bias, "batch_size": 8, "_vae": None}
    loss = {"P_mean": -0.4, "P_std": 1.0, "sigma_data": 0.5}
    whole = easy_dict(
        encoder=persistent("StabilityVAEEncoder", state, source),
        dataset_kwargs=easy_dict(path="x.zip", use_labels=True),
        loss_fn=persistent("EDM2Loss", loss, source),
        ema=network(weights, arguments, era, source),
    )
    return dumps(whole)


def snapshot(weights, arguments, era="2.x", protocol=4, marker="/nonexistent/marker", **entries):
    """The bytes of a snapshot as the official training writes it."""
    source = SOURCE.format(marker=str(marker))
    wrapper = network(weights, arguments, era, source)
    loss = persistent("EDMLoss", {"P_mean": -1.2, "P_std": 1.2, "sigma_data": 0.5}, source)
    data = {"path": "cifar10.zip", "use_labels": True, "xflip": False, "resolution": 32}
    entries = {"loss_fn": loss, "augment_pipe": None, "dataset_kwargs": data, **entries}
    return dumps({"ema": wrapper, **entries}, protocol)


def script_part(name, **state):
    """An object of a TorchScript program: its tensors and further objects by their names."""
    return Made(Named("__torch__.torch.nn", name), (), state, new=True)


def script_tensor(key, *sizes):
    """A tensor of such an object, which lies in a storage of its own."""
    kind = Named("torch", "FloatStorage")
    storage = Stored(("storage", kind, key, "cpu", int(np.prod(sizes))))
    strides = tuple(int(np.prod(sizes[i + 1 :])) for i in range(len(sizes)))
    return Made(TENSOR, (storage, 0, sizes, strides, False, {}))


def script(module, storages):
    """The bytes of an archive as TorchScript writes it, with a program that would do harm."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("inception/data.pkl", dumps(module, 2))
        for key, values in storages.items():
            file.writestr(f"inception/data/{key}", values.tobytes())
        file.writestr("inception/code/__torch__.py", SOURCE * 100, zipfile.ZIP_DEFLATED)
        file.writestr("inception/constants.pkl", dumps((), 2))
        file.writestr("inception/byteorder", "little")
    return stream.getvalue()
