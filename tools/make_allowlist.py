"""Regenerate src/regraft/trust/scan/allowlist.json: the names that real pickles of installed libraries use, and how.

Run in the development environment: `python tools/make_allowlist.py`. Every value is pickled here, by the library's own
code, and followed by the pickle machine; nothing is read from outside. What could run code when it is called with
other arguments is refused (and printed) even if a library's pickles use it.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import importlib.util
import inspect
import io
import json
import pathlib
import pickle
import platform
import re
import tempfile
import types
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from allowlist_libraries import LIBRARIES as OPTIONAL
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.pickle_streams import follow_joblib, follow_torch_legacy
from regraft.package.formats.pickle_values import Call, Global, PickleStream
from regraft.package.reader import BytesReader
from regraft.trust.scan.pickle_dangers import CALLERS, danger_of

TARGET = Path(__file__).parent.parent / "src/regraft/trust/scan/allowlist.json"
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "joblib")
DISTRIBUTION = {"sklearn": "scikit-learn"}

INERT_FUNCTIONS = re.compile(
    r"^(numpy\.(_core|core)\.(multiarray\.(_reconstruct|scalar)|numeric\._frombuffer)"
    r"|numpy\.(_core|core)\._internal\._convert_to_stringdtype_kwargs"
    r"|numpy\.random\._pickle\.__(generator|bit_generator|randomstate)_ctor"
    r"|numpy\.ma\.core\._mareconstruct"
    r"|numpy\.random\.bit_generator\.__pyx_unpickle_\w+"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|sparse_tensor|sparse_csr_tensor|nested_tensor|qtensor"
    r"|parameter|parameter_with_state|meta_tensor_no_storage|device_tensor_from_numpy"
    r"|device_tensor_from_cpu_tensor)"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout|torch\._utils\._get_(dtype|layout)"
    r"|torch\.storage\._load_from_bytes"
    r"|sklearn\.[\w.]+\.(__pyx_unpickle_\w+|newObj)"
    r"|scipy\.[\w.]+\.(__pyx_unpickle_\w+|newObj)"
    r"|scipy\.optimize\._optimize\.\w*MemoizeJac"
    r"|_codecs\.encode|copyreg\._reconstructor|copy_reg\._reconstructor|copyreg\.__newobj(_ex)?__"
    r"|pandas\._libs\.(arrays\.__pyx_unpickle_NDArrayBacked|interval\.__pyx_unpickle_IntervalMixin"
    r"|internals\._unpickle_block|tslibs\.(nattype\._nat_unpickle|timedeltas\._timedelta_unpickle"
    r"|timestamps\._unpickle_timestamp|offsets\.__pyx_unpickle_\w+|period\._\w*unpickle\w*))"
    r"|pandas\.core\.indexes\.(base\._new_Index|datetimes\._new_DatetimeIndex|interval\._new_IntervalIndex"
    r"|timedeltas\._new_TimedeltaIndex|period\._new_PeriodIndex)"
    r"|array\._array_reconstructor)$"
)
"""Functions (not classes) that are chosen by hand, as known to build a value from their arguments and nothing else.

`_rebuild_from_type_v2`, `_reconstructor` and the random constructors call an argument of theirs: the rule family
looks at that argument, and at the class that pandas' `_new_*Index` build. `_load_from_bytes` unpickles its argument:
the rule family follows those bytes too.
"""

REFUSED = re.compile(r"^(_?operator\.|_?functools\.|types\.\w+Type$|builtins\.(__\w+|type$))")


class Collector:
    """Names by module, with the ways in which they were used."""

    def __init__(self) -> None:
        self.uses: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
        self.samples = 0
        self.failed: list[str] = []

    def follow(self, stream: PickleStream) -> None:
        """Record the globals of one stream."""
        if not stream.complete:
            raise RuntimeError(f"the machine stumbled over a real pickle: {stream.problem}")
        self.samples += 1
        called: set[int] = set()
        for call in stream.calls:
            function = (
                call.function.function if call.kind == "build" and isinstance(call.function, Call) else call.function
            )
            if isinstance(function, Global):
                self._use(function, call.kind)
                called.add(id(function))
                if function.path in ("copyreg._reconstructor", "copyreg.__newobj__") and call.arguments:
                    first = call.arguments[0]
                    if isinstance(first, Global):
                        self._use(first, "newobj")
                        called.add(id(first))
        for name in stream.globals:
            if id(name) not in called:
                self._use(name, "reference")

    def _use(self, name: Global, how: str) -> None:
        if name.module is not None and name.name is not None:
            self.uses[name.module, name.name].add(how)

    def add(self, value: Any, label: str, protocols: tuple[int, ...] = (0, 2, 3, 4, 5)) -> None:
        """Pickle a value and record what its pickle names."""
        for protocol in protocols:
            try:
                data = pickle.dumps(value, protocol)
            except Exception as error:
                self.failed.append(f"{label} (protocol {protocol}): {type(error).__name__}")
                continue
            self.follow(read_pickle(data))


def plain_values() -> Iterator[tuple[str, Any]]:
    """Value types of the standard library whose construction has no effect."""
    from zoneinfo import ZoneInfo

    zone = datetime.timezone(datetime.timedelta(hours=2), "here")
    yield from {
        "builtins": [1, 1.5, 2j, "x", b"x", bytearray(b"x"), {1}, frozenset({1}), range(3), slice(1, 2), None, ...],
        "types": [
            int,
            float,
            str,
            bytes,
            bytearray,
            bool,
            complex,
            list,
            tuple,
            dict,
            set,
            frozenset,
            object,
            type(None),
        ],
        "enumerations": [enum.Enum, enum.IntEnum, enum.Flag, enum.IntFlag, enum.StrEnum],
        "errors": [ValueError("x"), KeyError("x"), RuntimeError("x"), TypeError("x")],
        "collections": [
            collections.OrderedDict(a=1),
            collections.defaultdict(list, a=[1]),
            collections.defaultdict(int, a=1),
            collections.deque([1], maxlen=3),
            collections.Counter("aab"),
            collections.ChainMap({}),
        ],
        "datetime": [
            datetime.datetime(2020, 1, 1, tzinfo=zone),
            datetime.date(2020, 1, 1),
            datetime.time(1),
            datetime.timedelta(1),
            zone,
            datetime.UTC,
        ],
        "numbers": [decimal.Decimal("1.5"), fractions.Fraction(1, 2), uuid.UUID(int=1)],
        "zone": [ZoneInfo("UTC")] if "UTC" in __import__("zoneinfo").available_timezones() else [],
        "paths": [
            pathlib.PurePosixPath("x"),
            pathlib.PureWindowsPath("x"),
            pathlib.PosixPath("x"),
        ],
        "namespace": [types.SimpleNamespace(a=1), __import__("argparse").Namespace(a=1)],
        "random": [__import__("random").Random(1)],
        "array": [__import__("array").array("d", [1.0])],
        "string": [__import__("string").Formatter()],
    }.items()


def numpy_values() -> Iterator[tuple[str, Any]]:
    """Arrays and scalars of every dtype, generators, masked arrays, matrices, records."""
    import numpy as np

    for code in "?bBhHiIlLqQefdgFDGSUmMOV":
        dtype = np.dtype(code if code not in "SUV" else code + "3")
        yield f"dtype {code}", dtype
        yield f"array {code}", np.zeros((2, 2), dtype)
        yield f"fortran {code}", np.asfortranarray(np.zeros((2, 3), dtype))
        if code not in "OV":
            yield f"scalar {code}", np.zeros((), dtype)[()]
        yield f"type {code}", dtype.type
    record = np.dtype([("a", "f4"), ("b", "i8", (2,))])
    yield "record", np.zeros(2, record)
    yield "recarray", np.zeros(2, record).view(np.recarray)
    yield "void", np.zeros(2, record)[0]
    yield "matrix", np.asmatrix([[1.0]])
    yield "masked", np.ma.masked_array([1.0, 2.0], mask=[True, False])
    yield "masked constant", np.ma.masked
    yield "chararray", np.char.array(["a"])
    yield "object array", np.array([None, "x", (1, 2)], dtype=object)
    yield "string array", np.array(["a"], dtype=np.dtypes.StringDType())
    yield "poly", np.poly1d([1, 2])
    yield "polynomial", np.polynomial.Polynomial([1, 2])
    for bits in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
        generator = getattr(np.random, bits)(1)
        yield bits, generator
        yield f"generator {bits}", np.random.Generator(generator)
    yield "random state", np.random.RandomState(1)
    yield "seed sequence", np.random.SeedSequence(1)
    yield "memory map", np.zeros(3).view(np.memmap) if False else np.ndarray
    yield "finfo", np.float32
    square = np.eye(2)
    yield "results", [np.linalg.slogdet(square), np.linalg.eig(square), np.linalg.qr(square), np.linalg.svd(square)]
    yield "unique", [np.unique_all(square), np.unique_counts(square), np.unique_inverse(square)]


def scipy_values() -> Iterator[tuple[str, Any]]:
    """Sparse matrices and arrays, interpolators, frozen distributions."""
    import numpy as np
    import scipy.interpolate
    import scipy.sparse
    import scipy.spatial
    import scipy.stats

    for layout in ("csr", "csc", "coo", "bsr", "dia", "dok", "lil"):
        for kind in ("matrix", "array"):
            yield f"{layout}_{kind}", getattr(scipy.sparse, f"{layout}_{kind}")(np.eye(3))
    x = np.arange(6.0)
    yield "interp1d", scipy.interpolate.interp1d(x, x)
    yield "spline", scipy.interpolate.BSpline(x, x[:4], 1)
    yield "ppoly", scipy.interpolate.PPoly(np.ones((2, 5)), x)
    yield "cubic", scipy.interpolate.CubicSpline(x, x)
    yield "pchip", scipy.interpolate.PchipInterpolator(x, x)
    yield "ckdtree", scipy.spatial.cKDTree(np.eye(3))
    yield "kdtree", scipy.spatial.KDTree(np.eye(3))
    yield "rotation", scipy.spatial.transform.Rotation.identity()


def torch_values() -> Iterator[tuple[str, Any]]:
    """Tensors of every dtype and layout, parameters, value types, optimizer and module state dicts."""
    import torch

    names = [n for n in dir(torch) if isinstance(getattr(torch, n), torch.dtype)]
    for name in names:
        dtype = getattr(torch, name)
        yield f"dtype {name}", dtype
        if not re.match(r"(q|u?int[1-7]$|bits|float4|complex32)", name):
            with contextlib.suppress(Exception):
                yield f"tensor {name}", torch.zeros(2, 3, dtype=dtype)
    for name in ("uint1", "int4", "complex32", "float4_e2m1fn_x2", "bits8"):
        with contextlib.suppress(Exception):
            yield f"tensor {name}", torch.empty(2, dtype=getattr(torch, name))
    yield "parameter", torch.nn.Parameter(torch.zeros(2))
    yield "buffer", torch.nn.Buffer(torch.zeros(2))
    yield "size", torch.Size([1, 2])
    yield "device", torch.device("cpu")
    yield "storage", torch.zeros(2).untyped_storage()
    yield "typed storage", torch.storage.TypedStorage(2, dtype=torch.float32)
    yield "sparse", torch.eye(2).to_sparse()
    yield "csr", torch.eye(2).to_sparse_csr()
    yield "csc", torch.eye(2).to_sparse_csc()
    yield "bsr", torch.eye(4).to_sparse_bsr((2, 2))
    yield "meta", torch.zeros(2, device="meta")
    yield "layout", torch.strided
    yield "memory format", torch.contiguous_format
    for dtype in (torch.quint8, torch.qint8, torch.qint32):
        with contextlib.suppress(Exception):
            yield f"quantized {dtype}", torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, dtype)
            yield (
                f"per channel {dtype}",
                torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2, dtype=torch.long), 0, dtype),
            )
    yield "nested", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    yield "state dict", module.state_dict()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    yield "optimizer", optimizer.state_dict()
    yield "swa", torch.optim.swa_utils.AveragedModel(module).state_dict()
    yield "gradient", module[0].weight
    tensor = torch.zeros(2)
    tensor.note = 1
    yield "with attributes", tensor


def torch_modules() -> Iterator[tuple[str, Any]]:
    """Every layer of torch.nn that can be built with small arguments, as a whole object."""
    import torch

    tries: tuple[tuple[Any, ...], ...] = (
        (),
        (2,),
        (2, 2),
        (4, 2),
        (2, 2, 2),
        (3, 3, 3, 1),
        ([2],),
        ([],),
        (0.5,),
        (2, (1, 1)),
    )
    for name in sorted(dir(torch.nn)):
        kind = getattr(torch.nn, name)
        if inspect.isclass(kind) and issubclass(kind, torch.nn.Module):
            for arguments in tries:
                with contextlib.suppress(Exception):
                    yield f"nn.{name}{arguments}", kind(*arguments)
                    break


def sklearn_values() -> Iterator[tuple[str, Any]]:
    """Every estimator that fits on tiny data, fitted; those that need another estimator around several."""
    from sklearn.utils import all_estimators

    for name, kind in all_estimators():
        for estimator in _built(name, kind):
            for data in _tiny_data(name):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        fitted = estimator.fit(*data)
                    except Exception:
                        continue
                yield name, fitted
                break
            else:
                yield f"{name} (not fitted)", estimator


def _built(name: str, kind: type) -> Iterator[Any]:
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    small = {"n_estimators": 3, "max_iter": 20, "n_components": 2, "n_clusters": 2, "n_neighbors": 2, "min_samples": 2}
    required: dict[str, Any] = {
        "estimator": LogisticRegression(),
        "base_estimator": LogisticRegression(),
        "estimators": [("a", LogisticRegression()), ("b", DecisionTreeClassifier())],
        "transformers": [("a", "passthrough", [0])],
        "transformer_list": [("a", "passthrough")],
        "steps": [("a", LogisticRegression())],
        "param_grid": {"C": [1.0]},
        "param_distributions": {"C": [1.0]},
        "dictionary": [[1.0, 0.0], [0.0, 1.0]],
        "cv": 2,
    }
    parameters = inspect.signature(kind).parameters
    arguments = {k: v for k, v in required.items() if k in parameters and parameters[k].default is inspect._empty}
    variants = [{k: v for k, v in small.items() if k in parameters}, {}]
    if "estimators" in arguments and "Regressor" in name:
        arguments["estimators"] = [("a", LinearRegression())]
    if name in ("KNeighborsClassifier", "KNeighborsRegressor", "NearestNeighbors", "LocalOutlierFactor"):
        variants += [{"algorithm": a, "n_neighbors": 2} for a in ("ball_tree", "kd_tree", "brute")]
    if name.startswith("SGD"):
        losses = kind._parameter_constraints.get("loss", [None])[0]  # type: ignore[attr-defined]
        variants += [{"loss": loss} for loss in getattr(losses, "options", ())]
    if name.startswith("HistGradientBoosting") and name.endswith("Regressor"):
        variants += [{"loss": loss} for loss in ("absolute_error", "poisson", "gamma")]
    if name.startswith("GradientBoosting"):
        variants += [{"loss": x, "n_estimators": 2} for x in ("exponential", "huber", "quantile", "absolute_error")]
    if name == "GaussianProcessRegressor":
        from sklearn.gaussian_process import kernels as k

        variants += [{"kernel": k.RBF() + k.WhiteKernel()}, {"kernel": k.Matern() * k.ConstantKernel()}]
        variants += [{"kernel": k.RationalQuadratic()}, {"kernel": k.DotProduct()}, {"kernel": k.ExpSineSquared()}]
    for variant in variants:
        with contextlib.suppress(Exception):
            yield kind(**arguments, **variant)


def _tiny_data(name: str) -> Iterator[tuple[Any, ...]]:
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.random((24, 4))
    classes = np.array([0, 1] * 12)
    if "Vectorizer" in name or "Hashing" in name:
        yield (["a few words here", "and some more words"] * 3,)
    if "DictVectorizer" in name:
        yield ([{"a": 1.0}],)
    if "Multi" in name or "Chain" in name or name.startswith(("CCA", "PLS")):
        yield x, np.stack([classes, 1 - classes], axis=1)
    yield x, classes
    yield x, x[:, 0]
    yield x, x[:, :2]
    yield (x,)
    yield (x[:, 0],)
    yield classes, classes
    yield (classes,)
    yield x[:, 0], x[:, 1]
    yield (["a", "b"],)
    yield ([[1], [2]],)
    yield (x > 0.5,)


def follow_torch_files(collector: Collector, label: str, value: Any) -> None:
    """Save with torch, in the zip and in the legacy layout, and follow the pickles inside."""
    import torch

    for legacy in (False, True):
        buffer = io.BytesIO()
        try:
            torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
        except Exception as error:
            collector.failed.append(f"torch.save {label}: {type(error).__name__}")
            continue
        data = buffer.getvalue()
        if legacy:
            for stream in follow_torch_legacy(BytesReader(data, where=label)):
                collector.follow(stream)
            continue
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                if member.endswith("data.pkl"):
                    collector.follow(read_pickle(archive.read(member)))


def follow_joblib_file(collector: Collector, value: Any) -> None:
    """Dump with joblib, uncompressed, and follow the pickle between the raw arrays."""
    import joblib

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.joblib"
        try:
            joblib.dump(value, path)
        except Exception as error:
            collector.failed.append(f"joblib {type(value).__name__}: {type(error).__name__}")
            return
        for stream in follow_joblib(BytesReader(path.read_bytes(), where="joblib")):
            if stream.complete:
                collector.follow(stream)
            else:
                collector.failed.append(f"joblib {type(value).__name__}: {stream.problem and stream.problem.what}")


def verdict(module: str, name: str, uses: set[str]) -> tuple[set[str], str | None]:
    """The uses to allow, and why the rest is refused."""
    path = f"{module}.{name}"
    if danger_of(module, name) is not None or path in CALLERS or REFUSED.match(path):
        return set(), "can run code"
    try:
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except Exception:
        return set(), "cannot be resolved here"
    if not inspect.isclass(target) and not INERT_FUNCTIONS.match(path) and uses & {"reduce", "inst", "obj"}:
        return uses & {"reference"}, "a function that nobody has read"
    return uses, None


def collect() -> Collector:
    """Pickle everything."""
    collector = Collector()
    families: list[tuple[Callable[[], Iterator[tuple[str, Any]]], bool, bool]] = [
        (plain_values, False, False),
        (numpy_values, True, True),
        (scipy_values, False, True),
        (torch_values, True, False),
        (torch_modules, True, False),
        (sklearn_values, False, True),
        *((family, False, True) for family in dict.fromkeys(OPTIONAL.values()) if family not in _absent()),
    ]
    for family, with_torch, with_joblib in families:
        for label, value in family():
            for item in value if family is plain_values else [value]:
                collector.add(item, label)
                if with_torch:
                    follow_torch_files(collector, label, item)
                if with_joblib:
                    follow_joblib_file(collector, item)
    return collector


@functools.cache
def _absent() -> frozenset[Callable[[], Iterator[tuple[str, Any]]]]:
    """The families of values whose library is not here."""
    return frozenset(family for name, family in OPTIONAL.items() if importlib.util.find_spec(name) is None)


def library_versions(before: dict[str, str]) -> dict[str, str]:
    """Versions of what was asked, now or before."""
    from importlib.metadata import version

    here = [name for name, family in OPTIONAL.items() if family not in _absent() and name not in DISTRIBUTION]
    return {**before, "python": platform.python_version(), **{name: version(name) for name in (*LIBRARIES, *here)}}


def main() -> None:
    """Write the list, print what was refused."""
    warnings.simplefilter("ignore")
    collector = collect()
    names: dict[str, dict[str, list[str]]] = collections.defaultdict(dict)
    for (module, name), uses in sorted(collector.uses.items()):
        allowed, reason = verdict(module, name, uses)
        if reason:
            print(f"refused {module}.{name} {sorted(uses - allowed)}: {reason}")
        if allowed:
            names[module][name] = sorted(allowed)
    before = json.loads(TARGET.read_bytes())
    absent = {name for name, family in OPTIONAL.items() if family in _absent()}
    names |= {module: kept for module, kept in before["names"].items() if module.split(".")[0] in absent}
    record = {"seen_in": library_versions(before["seen_in"]), "names": names}
    text = json.dumps(record, indent=1, sort_keys=True)
    text = re.sub(r"\[\s+([^\]]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
    TARGET.write_text(text + "\n")
    total = sum(len(entries) for entries in names.values())
    print(f"{collector.samples} streams, {total} names; not pickled: {len(collector.failed)}")
    for failure in sorted(set(collector.failed)):
        print("  ", failure)


if __name__ == "__main__":
    main()
