"""torch: a folder of config.json and weights whose architecture is built into transformers. Never from the hub."""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, LimitExceeded, MissingExtra, PermitRefused, Unsupported
from regraft.package.formats import Port
from regraft.package.limits import MAX_NESTING, MAX_TEXT_BYTES
from regraft.runtime.package_code import network_from_package_code
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_tensors import import_torch, torch_dtype
from regraft.runtime.torch_weights import WEIGHT_FORMATS, state_dict_from_files, stored_precision

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from regraft.package.package import Package
    from regraft.runtime.interface import LoadOptions
    from regraft.runtime.verified import VerifiedFiles

_WEIGHT_NAMES = frozenset(
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
)
_REMOTE = ("auto_map", "trust_remote_code", "_name_or_path", "name_or_path", "_attn_implementation",
           "attn_implementation", "_experts_implementation", "experts_implementation", "use_kernels",
           "use_pretrained_backbone", "dtype", "torch_dtype", "transformers_version")  # fmt: skip
"""Keys of a configuration that name code or files elsewhere, or that the weights themselves decide."""
_MAX_SIZE = 1 << 26
_MAX_LAYERS = 4096
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_POOLERS = ("pooler.",)
"""Parts that checkpoints of language models lack, and that nothing else depends on."""


class TransformersRuntime:
    """Loads text, vision and audio networks of transformers as a `TorchModel`."""

    name = "torch"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """Weights under one of the names of transformers, beside a model's config.json."""
        if options.factory is not None:
            return False
        folder, base = posixpath.split(path)
        config = posixpath.join(folder, "config.json")
        if all(entry.path != config or entry.obstacle for entry in package.entries):
            return False
        _, recognised = package.probe(path)
        if recognised is None or recognised.name not in WEIGHT_FORMATS:
            return False
        if base not in _WEIGHT_NAMES and path != package.ref.inside:
            return False
        probe, _ = package.probe(config)
        return isinstance(probe.json, dict) and bool({"model_type", "architectures", "hidden_size"} & set(probe.json))

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> TorchModel:
        """Build the network from its configuration and fill it; every weight that it needs must be there."""
        import_torch(path)
        transformers = import_transformers(path)
        found = network_from_package_code(files, path, head=options.head)
        config = _config(files, path) if found is None else found[0]
        state_dict = state_dict_from_files(files, path)
        network = _network_class(transformers, config, head=options.head, where=path) if found is None else found[1]
        dtype = options.precision or stored_precision(state_dict)
        module = filled(transformers, network, config, state_dict, torch_dtype(dtype), path)
        inputs, ranges = model_inputs(module, config, dtype)
        return TorchModel(module, inputs=inputs, ranges=ranges, threads=options.threads, where=path)


def import_transformers(where: str) -> Any:
    """The library.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("transformers", extra="torch", where=where) from error
    return transformers


def _config(files: VerifiedFiles, path: str) -> PretrainedConfig:
    import transformers
    from transformers import CONFIG_MAPPING, AutoConfig

    place = files.beside(path, "config.json")
    if place is None:
        raise Unsupported("no config.json beside the weights", where=path, hint="name your own code with factory=")
    try:
        fields = json.loads(files.text(place, limit=MAX_TEXT_BYTES))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not JSON: {error}", where=place) from None
    if not isinstance(fields, dict):
        raise Damaged("the configuration is not an object", where=place)
    if fields.get("quantization_config"):
        raise Unsupported("weights quantised by transformers are not loaded", where=place)
    remote = fields.get("auto_map")
    plain = _local(fields, place)
    model_type = str(plain.pop("model_type", None) or _model_type_by_name(f"{files.where}/{path}"))
    if model_type not in CONFIG_MAPPING:
        if remote:
            raise PermitRefused(
                f"the architecture {model_type!r} is code of the package, which runs in the sandbox only",
                where=place,
                hint="regraft scan lists that code; if you trust it: --trust-code (in Python: trust_code=True)",
            )
        raise Unsupported(f"transformers has no architecture {model_type!r}", where=place)
    try:
        with quietly(transformers):
            return AutoConfig.for_model(model_type, **plain)
    except Exception as error:
        raise Damaged(f"transformers refuses the configuration: {error}", where=place) from error


def _local(value: Any, where: str, depth: int = 0) -> Any:
    """A copy without what names code or files elsewhere, and with sizes that a network can have."""
    if depth > MAX_NESTING:
        raise LimitExceeded(f"nested more than {MAX_NESTING} deep", where=where)
    if isinstance(value, dict):
        for key, item in value.items():
            bound = _MAX_LAYERS if "layers" in key or key in ("n_layer", "depth") else _MAX_SIZE
            if isinstance(item, int) and abs(item) > bound and "token" not in key and "length" not in key:
                raise LimitExceeded(f"{key} is {item}, more than {bound}", where=where)
        return {key: _local(item, where, depth + 1) for key, item in value.items() if key not in _REMOTE}
    if isinstance(value, list):
        return [_local(item, where, depth + 1) for item in value]
    return value


def _model_type_by_name(path: str) -> str:
    """The architecture that a folder's name contains, for configurations from before `model_type` existed.

    Source: transformers, AutoConfig.from_pretrained does the same, longest name first. Weights that do not
    fit the architecture are refused afterwards.
    """
    from transformers import CONFIG_MAPPING

    for part in reversed(path.lower().split("/")):
        for name in sorted(CONFIG_MAPPING.keys(), key=len, reverse=True):
            if len(name) > 3 and name in part:
                return str(name)
    return ""


def _network_class(transformers: Any, config: PretrainedConfig, *, head: bool, where: str) -> type[PreTrainedModel]:
    """The declared class when transformers has it for this configuration, else the backbone of its type."""
    from transformers import AutoModel, PreTrainedModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    declared = (getattr(config, "architectures", None) or [None])[0]
    found = getattr(transformers, declared, None) if head and isinstance(declared, str) else None
    if isinstance(found, type) and issubclass(found, PreTrainedModel) and found.config_class is type(config):
        return found
    if type(config) not in MODEL_MAPPING:
        raise Unsupported(f"{AutoModel.__name__} has no network for {config.model_type!r}", where=where)
    backbone: Any = MODEL_MAPPING[type(config)]
    chosen: type[PreTrainedModel] = backbone[0] if isinstance(backbone, tuple | list) else backbone
    return chosen


def filled(
    transformers: Any,
    network: type[PreTrainedModel],
    config: PretrainedConfig,
    state_dict: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    where: str,
) -> PreTrainedModel:
    """A network of transformers with these weights, every one that it needs among them.

    Raises:
        Unsupported: it does not take them, or some are missing.
        Damaged: they have other shapes than the configuration says.
    """
    with quietly(transformers):
        try:
            loaded: Any = network.from_pretrained(
                None,
                config=config,
                state_dict=dict(state_dict),
                dtype=dtype,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:
            raise Unsupported(
                f"{network.__name__} does not take these weights: {str(error).strip()[:500]}", where=where
            ) from error
    module: PreTrainedModel
    module, report = loaded
    missing = sorted(report["missing_keys"])
    mismatched = sorted(str(entry) for entry in report.get("mismatched_keys", ()))
    if mismatched:
        raise Damaged(f"weights of other shapes than the configuration says: {', '.join(mismatched[:5])}", where=where)
    if missing and all(name.startswith(_POOLERS) for name in missing) and hasattr(module, "pooler"):
        module.pooler = None  # type: ignore[assignment]
        missing = []
    if missing:
        raise Unsupported(
            f"{len(missing)} weights of {network.__name__} are not in the file, the first is {missing[0]}",
            where=where,
            hint="they would be random; load the part that is there with head=False, or name your own factory=",
        )
    return module


def model_inputs(
    module: PreTrainedModel, config: PretrainedConfig, dtype: str
) -> tuple[list[Port], dict[str, tuple[int, int]]]:
    """Inputs of a network of transformers, and the legal values of those that are integers."""
    import inspect

    accepted = set(inspect.signature(module.forward).parameters)
    main = str(module.main_input_name)
    if main == "pixel_values":
        side = getattr(config, "image_size", None)
        height, width = side if isinstance(side, list | tuple) else (side, side)
        channels = getattr(config, "num_channels", 3)
        return [Port(main, dtype, ("batch", channels, height or "height", width or "width"))], {}
    if main != "input_ids":
        return [Port(main, dtype, ("batch", "samples"))], {}
    text = config.get_text_config()
    names = [name for name in _TEXT_INPUTS if name in accepted]
    types = getattr(text, "type_vocab_size", 0) or 0
    if types < 1 and "token_type_ids" in names:
        names.remove("token_type_ids")
    ranges = {"input_ids": (0, int(getattr(text, "vocab_size", 1)) - 1), "attention_mask": (0, 1)}
    if types:
        ranges["token_type_ids"] = (0, int(types) - 1)
    ports = [Port(name, "int64", ("batch", "tokens")) for name in names]
    return ports, {name: ranges[name] for name in names}


@contextlib.contextmanager
def without_caches(module: Any) -> Iterator[None]:
    """Decoders of transformers return a cache, which no program can hold, unless they are told not to."""
    configs = {id(config): config for one in module.modules() if (config := getattr(one, "config", None)) is not None}
    cached = [config for config in configs.values() if getattr(config, "use_cache", None) is True]
    try:
        for config in cached:
            config.use_cache = False
        yield
    finally:
        for config in cached:
            config.use_cache = True


@contextlib.contextmanager
def quietly(transformers: Any) -> Iterator[None]:
    """No progress bar and no advice of transformers on stderr."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
