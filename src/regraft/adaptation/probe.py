"""Probes: small classifiers on features that were computed once, and the trivial baselines they must beat."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from regraft.errors import MissingExtra
from regraft.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.adaptation.data import LabelledData

    Inputs: TypeAlias = NDArray[np.float32] | NDArray[np.object_]
    Make: TypeAlias = Callable[[float], Any]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the ridge penalty (C) that inner folds choose from, for standardised features."""
TEXT_STRENGTHS = (1.0, 10.0, 100.0)
"""The same for TF-IDF, whose rows have unit length."""
FOLDS = 5
REPEATS = 2
INNER_FOLDS = 3
NEIGHBOURS = 15
_MAX_ITERATIONS = 500
_WIDE = 1.5
"""Features per row above which turning them pays."""
_LEAST_DEVIATION = 0.01
"""A feature that fires in three rows of a thousand, divided by its own deviation, once gave a logit of −500."""
_LOG_TEMPERATURES = (-5.0, 5.0)


class Method(msgspec.Struct, frozen=True):
    """A way to classify: how it is called, what it is made of, and the strengths to choose among.

    Attributes:
        make: C → an estimator of scikit-learn that has not been fitted.
        strengths: a single one means that nothing is chosen.
        least: for logistic regression on standardised features, the least deviation; None for other methods.
    """

    name: str
    make: Make
    strengths: tuple[float, ...] = (1.0,)
    least: float | None = None


class CrossValidated(msgspec.Struct, frozen=True):
    """Scores of a method on the learning rows.

    Attributes:
        scores: (J,) accuracy of each fold, J = FOLDS × REPEATS.
        strengths: the C that the inner folds chose, once a fold.
    """

    scores: NDArray[np.float64]
    strengths: tuple[float, ...]


def logistic_probe() -> Method:
    """Standardised features and logistic regression with a ridge penalty."""
    return _logistic("probe", least=_LEAST_DEVIATION)


def _logistic(name: str, *, least: float) -> Method:
    _require_sklearn()
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def make(strength: float) -> Any:
        return make_pipeline(_scaler(least), LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS))

    return Method(name, make, STRENGTHS, least)


def _scaler(least: float) -> Any:
    """Standardises, and takes no deviation for smaller than a share of what features deviate by on average (RMS)."""
    from sklearn.preprocessing import StandardScaler

    class FlooredScaler(StandardScaler):  # type: ignore[misc]
        """A StandardScaler with a least scale."""

        scale_: Any

        def fit(self, inputs: Inputs, labels: Any = None) -> Any:
            import numpy as np

            super().fit(inputs, labels)
            self.scale_ = np.maximum(self.scale_, least * np.sqrt(self.var_.mean()))
            return self

    return FlooredScaler()


def nearest_neighbours(rows: int) -> Method:
    """The most frequent class among the 15 nearest by cosine, fewer when there are few rows."""
    _require_sklearn()
    from sklearn.neighbors import KNeighborsClassifier

    count = max(1, min(NEIGHBOURS, rows // 10))
    return Method("k-NN", lambda _: KNeighborsClassifier(count, metric="cosine", weights="distance"))


def majority() -> Method:
    """Always the most frequent class."""
    _require_sklearn()
    from sklearn.dummy import DummyClassifier

    return Method("majority class", lambda _: DummyClassifier(strategy="most_frequent"))


def raw_baseline(data: LabelledData) -> Method:
    """Logistic regression on the raw input: TF-IDF of words, or pixels.

    Pixels that hardly vary are not blown up to the size of the others, which is worth one or two points: a baseline
    is to be beaten at its best. Pairs of words are left out: on 1,000 to 6,000 rows of Rotten Tomatoes they changed
    the accuracy by less than half a point and cost three times as much.
    """
    _require_sklearn()
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if data.images is not None:
        return _logistic("raw pixels", least=1.0)

    def make(strength: float) -> Any:
        regression = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
        return make_pipeline(TfidfVectorizer(sublinear_tf=True), regression)

    return Method("TF-IDF", make, TEXT_STRENGTHS)


def raw_inputs(data: LabelledData) -> Inputs:
    """The inputs of all rows as a baseline takes them: texts, or (N, H·W) pixels."""
    import numpy as np

    if data.images is not None:
        return data.images.reshape(len(data), -1)
    return np.array(data.texts, dtype=object)


def cross_validated(
    method: Method, inputs: Inputs, labels: NDArray[np.int64], *, seed: int, label: str = ""
) -> CrossValidated:
    """Accuracy in repeated stratified folds, C chosen in inner folds of each training part.

    The folds depend on labels and seed alone, so that methods compared on the same rows share them.

    Args:
        inputs: (N, …) features, texts or pixels.
        labels: (N,) at least `FOLDS` rows of each class.
        label: what a progress bar says.
    """
    import numpy as np
    from sklearn.model_selection import RepeatedStratifiedKFold

    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=seed)
    with progress(label or method.name, total=FOLDS * REPEATS, unit="folds") as advance:

        def judged(rows: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[float, float]:
            train, test = rows
            strength = chosen_strength(method, inputs[train], labels[train], seed=seed)
            fitted = fit(method, inputs[train], labels[train], strength)
            score = float((predict(fitted, inputs[test]) == labels[test]).mean())
            advance(1)
            return score, strength

        found = at_once(judged, folds.split(np.zeros(len(labels)), labels))
    return CrossValidated(np.array([score for score, _ in found]), tuple(strength for _, strength in found))


def at_once(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """The function of every item, in order, on as many threads as there are processors; each fit has one of them."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with _alone(), ThreadPoolExecutor(min(processors, FOLDS * REPEATS)) as pool:
        return list(pool.map(function, items))


def chosen_strength(method: Method, inputs: Inputs, labels: NDArray[np.int64], *, seed: int) -> float:
    """The strength of the highest accuracy in three inner folds; of equals the strongest penalty."""
    import numpy as np
    from sklearn.model_selection import StratifiedKFold

    if len(method.strengths) == 1:
        return method.strengths[0]
    folds = StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=seed)
    right = np.zeros(len(method.strengths))
    for train, test in folds.split(np.zeros(len(labels)), labels):
        is_wide = method.least is not None and inputs.shape[1] > _WIDE * len(train)
        predictions = _wide_predictions if is_wide else _predictions
        for i, found in enumerate(predictions(method, inputs[train], labels[train], inputs[test])):
            right[i] += (found == labels[test]).sum()
    return method.strengths[int(np.argmax(right))]


def _predictions(
    method: Method, inputs: Inputs, labels: NDArray[np.int64], others: Inputs
) -> Iterator[NDArray[np.int64]]:
    for strength in method.strengths:
        yield predict(fit(method, inputs, labels, strength), others)


def _wide_predictions(
    method: Method, inputs: Inputs, labels: NDArray[np.int64], others: Inputs
) -> Iterator[NDArray[np.int64]]:
    """The same for more features than rows, in the space that the rows span.

    A ridge penalty does not see how features are turned, and gives no weight to directions that no row has. From
    the strongest penalty on, each fit begins where the last one ended. On 533 rows of 1,280 features five strengths
    take 0.24 s of CPU time in place of 0.55.
    """
    import numpy as np
    from scipy.linalg import qr
    from sklearn.linear_model import LogisticRegression

    scaler = _scaler(method.least or 0.0).fit(inputs)
    basis, turned = qr(scaler.transform(inputs).T, mode="economic", check_finite=False)  # (D, N), (N, N)
    rows, unseen = np.ascontiguousarray(turned.T), scaler.transform(others) @ basis
    regression = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
    for strength in method.strengths:
        with _alone():
            yield regression.set_params(C=strength).fit(rows, labels).predict(unseen)


def fit(method: Method, inputs: Inputs, labels: NDArray[np.int64], strength: float) -> Any:
    """A fitted estimator of scikit-learn."""
    with _alone():
        return method.make(strength).fit(inputs, labels)


def predict(fitted: Any, inputs: Inputs) -> NDArray[np.int64]:
    """The class of each row."""
    with _alone():
        classes: NDArray[np.int64] = fitted.predict(inputs)
    return classes


def temperature(method: Method, inputs: Inputs, labels: NDArray[np.int64], strength: float, *, seed: int) -> float:
    """What to divide logits by, so that probabilities on rows that were not learnt from are calibrated.

    Fitted on out-of-fold logits of the learning rows; the order of the classes, and so every label, stays.

    Source: Guo et al., On calibration of modern neural networks (2017), section 4.2, on out-of-fold logits in place of
        a validation set.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp
    from sklearn.model_selection import StratifiedKFold

    classes = int(labels.max()) + 1
    logits = np.zeros((len(labels), classes))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(logits, labels):
        weight, bias = linear_head(fit(method, inputs[train], labels[train], strength), classes)
        logits[test] = inputs[test] @ weight.T + bias

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").x))


def folds_share() -> float:
    """Rows in a test fold over rows in its training folds."""
    return 1 / (FOLDS - 1)


def linear_head(fitted: Any, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (K, D) and bias (K,) that give the logits of a fitted logistic probe on raw features.

    The standardisation is folded in. Two classes get logits ∓z/2, so that their softmax is the probability.
    """
    import numpy as np

    scaler, regression = fitted[0], fitted[-1]
    weight = regression.coef_ / scaler.scale_  # (K, D), or (1, D) for two classes
    bias = regression.intercept_ - weight @ scaler.mean_
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight.astype(np.float32), bias.astype(np.float32)


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtra("scikit-learn", extra="adapt") from error


class _Alone:
    """One thread for each fit: on matrices this small, threads that wait for each other cost ten times what they gain.

    A strength at which the solver stops early is still a candidate: its accuracy decides. The limit and the filter
    are those of the process, so the first who enters sets them and the last who leaves takes them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._set = contextlib.ExitStack()

    def __enter__(self) -> None:
        from sklearn.exceptions import ConvergenceWarning

        with self._lock:
            if not self._inside:
                self._set.enter_context(warnings.catch_warnings())
                self._set.enter_context(_thread_pools().limit(limits=1))
                warnings.simplefilter("ignore", ConvergenceWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._set.close()


@functools.cache
def _alone() -> _Alone:
    return _Alone()


@functools.cache
def _thread_pools() -> Any:
    """The thread pools of numpy and scipy; finding them takes longer than a fit."""
    import scipy.linalg  # noqa: F401  so that its pool is there to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
