"""Make weights of one implementation into weights of another. Needs numpy and safetensors; torch for its own files.

usage: python convert.py REFERENCE CANDIDATE [MODEL]
    REFERENCE: weights to read: .safetensors, .npz, or a state_dict of torch (.pt, .pth, .bin)
    CANDIDATE: .safetensors or .npz to write; or .onnx, which is MODEL with these weights in it (needs onnx)
"""

import json
import sys

import numpy as np

MAP = "{}"


def main(source, target, model=None):
    """Read, re-lay, write."""
    document = json.loads(MAP)
    reference = read(source)
    needed = {one["weight"] for pair in document["pairs"] for one in pair["reference"]}
    needed |= {name for pair in document["pairs"] for name in parts_of(pair["norm"])}
    missing = sorted(needed - set(reference))
    if missing:
        sys.exit(f"{source} lacks {len(missing)} weights of the map: {', '.join(missing[:5])}")
    made = {}
    for pair in document["pairs"]:
        dtype = reference[pair["reference"][0]["weight"]].dtype if pair["reference"] else np.float32
        into = made.setdefault(pair["weight"], np.zeros(pair["shape"], dtype))
        place(pair, reference, into)
    if model is not None:
        write_into(model, target, made)
    else:
        write(target, made)
    print(f"{target}: {len(made)} weights")


def place(pair, reference, into):
    """Write what a pair says into the candidate's weight."""
    order = axes_in_order(pair["axes"])
    view = into
    if pair["part"]:
        axis, start, stop = pair["part"]
        view = into[(slice(None),) * axis + (slice(start, stop),)]
    shape = [view.shape[axis] for axis in order]
    if not pair["reference"] and pair["norm"] is None:
        view[...] = pair["fill"]
        return
    parts = [canonical(one, reference[one["weight"]]) for one in pair["reference"]]
    value = joined(pair, parts) if parts else np.zeros((view.size, 1))
    if pair["norm"] is not None:
        value = folded(pair["norm"], value, reference)
    if pair["blocks"]:
        cut = value.reshape(len(pair["blocks"]), -1, *value.shape[1:])
        value = cut[pair["blocks"]].reshape(value.shape)
    if pair["inputs"]:
        extents, turned = pair["inputs"]
        split = value.reshape(value.shape[0], *extents)
        value = split.transpose(0, *(axis + 1 for axis in turned)).reshape(value.shape)
    if pair["is_flipped"]:
        value = np.flip(value, axis=tuple(range(2, value.ndim)))
    view[...] = value.reshape(shape).transpose(np.argsort(order))


def parts_of(norm):
    """Names of the weights of a norm."""
    names = [norm[role] for role in ("scale", "shift", "centre", "variance")] if norm is not None else []
    return [name for name in names if name]


def folded(norm, value, reference):
    """A projection's weight, or what it adds, with the norm behind it."""
    along = (-1, *(1,) * (value.ndim - 1))
    wide = {name: reference[name].astype(np.float64).reshape(along) for name in parts_of(norm)}
    factor = wide.get(norm["scale"], 1.0) / np.sqrt(wide[norm["variance"]] + norm["epsilon"])
    if norm["is_added"]:
        return (value - wide[norm["centre"]]) * factor + wide.get(norm["shift"], 0.0)
    return value * factor


def joined(pair, parts):
    """Several weights added, interleaved by head, or one behind the other."""
    if pair["is_sum"]:
        return np.sum(parts, axis=0, dtype=parts[0].dtype)
    if pair["heads"]:
        parts = [one.reshape(pair["heads"], -1, *one.shape[1:]) for one in parts]
        value = np.concatenate(parts, axis=1)
        return value.reshape(-1, *value.shape[2:])
    return np.concatenate(parts)


def canonical(one, value):
    """A weight as (channels out, channels in, places)."""
    if one["part"]:
        axis, start, stop = one["part"]
        value = value[(slice(None),) * axis + (slice(start, stop),)]
    extents = dict.fromkeys("OI", 1)
    places, rest = [], []
    for letter, extent in zip(one["axes"], value.shape, strict=True):
        if letter in "OI":
            extents[letter] *= extent
        elif letter == "S":
            places.append(extent)
        elif extent != 1:
            rest.append(extent)
    value = value.transpose(axes_in_order(one["axes"])).reshape(extents["O"], extents["I"], *places, *rest)
    if one["heads"]:
        value = value.reshape(one["heads"], one["parts"], -1, *value.shape[1:])
        start, stop = one["rows"]
        value = value[:, start:stop].swapaxes(0, 1)
        return value.reshape(-1, *value.shape[3:])
    return value[slice(*one["rows"])] if one["rows"] else value


def axes_in_order(letters):
    """Axes that make channels, then those that are summed over, then places, then the rest."""
    return sorted(range(len(letters)), key=lambda axis: "OIS".find(letters[axis]) % 4)


def read(path):
    """Weights by name."""
    if path.endswith(".safetensors"):
        from safetensors.numpy import load_file

        return load_file(path)
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    return {name: value.float().numpy() for name, value in state.items() if value.is_floating_point()}


def write(path, weights):
    """Weights by name."""
    weights = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    if path.endswith(".npz"):
        np.savez(path, **weights)
    else:
        from safetensors.numpy import save_file

        save_file(weights, path)


def write_into(model, path, weights):
    """An ONNX model with other initializers; what it computed from initializers alone becomes one."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(model)
    graph = proto.graph
    dtypes = {one.name: numpy_helper.to_array(one).dtype for one in graph.initializer}
    real = [dtype for dtype in dtypes.values() if dtype.kind == "f"]
    usual = max(real, key=real.count, default=np.float32)  # of what was computed: float16 where the network is
    for one in graph.value_info:
        elements = one.type.tensor_type.elem_type
        if elements:
            dtypes.setdefault(one.name, onnx.helper.tensor_dtype_to_np_dtype(elements))
    nodes = [node for node in graph.node if not any(name in weights for name in node.output)]
    kept = [one for one in graph.initializer if one.name not in weights]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    for name, value in weights.items():
        typed = np.ascontiguousarray(value.astype(dtypes.get(name, usual)))
        graph.initializer.append(numpy_helper.from_array(typed, name))
    onnx.save(proto, path)


if __name__ == "__main__":
    if len(sys.argv) != (4 if sys.argv[-1].endswith(".onnx") else 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
