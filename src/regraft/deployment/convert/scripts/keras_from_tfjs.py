"""Keras HDF5 from TensorFlow.js models of layers; runs in the environment `tensorflow`."""

import json
from pathlib import Path

from regraft.package.formats.keras import config_layers
from regraft.runtime.tfjs_graph import keras_network_of_tfjs

_DEFAULTS = {"groups": 1, "time_major": False}
_WITHOUT_EFFECT = {
    "SeparableConv": ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "SpatialDropout": ("trainable",),
    "MultiHeadAttention": ("query_shape", "key_shape", "value_shape"),
}
"""Beginning of a layer's class → settings that do nothing in it, or that it learns from its inputs."""


def convert(model, out, options):
    """The network of the configuration with its weights, by name; HDF5 is what both generations of Keras load.

    Raises:
        Unsupported: it is a graph model, or a layer carries code.
    """
    del options
    network = keras_network_of_tfjs(Path(model))
    import h5py
    import tensorflow
    import tf_keras

    made = Path(out) / "model.h5"
    network.save(str(made), include_optimizer=False, save_format="h5")
    with h5py.File(made, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        drop_unknown_to_keras_3(config)
        file.attrs["model_config"] = json.dumps(config)
    return {"model": "model.h5", "versions": {"tensorflow": tensorflow.__version__, "tf_keras": tf_keras.__version__}}


def drop_unknown_to_keras_3(config):
    """Take out what tf_keras 2.19 writes and Keras 3.15 refuses, where it is the default or has no effect."""
    for layer in config_layers(config):
        own = layer["config"]
        if not isinstance(own, dict):
            continue
        for key, default in _DEFAULTS.items():
            if key in own and own[key] == default:
                del own[key]
        for beginning, keys in _WITHOUT_EFFECT.items():
            if layer["class_name"].startswith(beginning):
                for key in keys:
                    own.pop(key, None)
