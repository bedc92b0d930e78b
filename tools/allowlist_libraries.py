"""Values of libraries that Regraft does not need, for make_allowlist: what their users pickle.

A library that cannot be imported is left as it is in the list. To renew all of them, install them apart and say where:
`pip install --target DIR --no-deps pandas lightgbm …; PYTHONPATH=DIR python tools/make_allowlist.py`.
"""

from __future__ import annotations

import contextlib
import datetime
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

Values = Iterator[tuple[str, Any]]


def pandas_values() -> Values:
    """Frames, series and indices of every kind, and the offsets and types that they hold."""
    import numpy as np
    import pandas as pd

    days = pd.date_range("2026-01-01", periods=3)
    columns: dict[str, Any] = {
        "ints": [1, 2, 3],
        "floats": [1.0, np.nan, 3.0],
        "texts": ["a", "b", None],
        "booleans": [True, False, True],
        "days": days,
        "zoned": days.tz_localize("UTC"),
        "european": days.tz_localize("Europe/Berlin"),
        "spans": pd.to_timedelta([1, 2, 3], unit="D"),
        "periods": pd.period_range("2026-01", periods=3, freq="M"),
        "kinds": pd.Categorical(["a", "b", "a"]),
        "ordered": pd.Categorical([1, 2, 1], ordered=True),
        "nullable": pd.array([1, None, 3], dtype="Int64"),
        "nullable floats": pd.array([1.0, None, 3.0], dtype="Float64"),
        "nullable booleans": pd.array([True, None, False], dtype="boolean"),
        "strings": pd.array(["a", None, "b"], dtype="string"),
        "intervals": pd.interval_range(0, 3),
        "sparse": pd.arrays.SparseArray([0, 0, 1]),
        "objects": np.array([{"a": 1}, [2], None], dtype=object),
    }
    for name, values in columns.items():
        yield f"series of {name}", pd.Series(values, name=name)
        yield f"index of {name}", pd.Index(values) if name != "objects" else pd.Index(["a"])
    yield "frame", pd.DataFrame(columns)
    yield "empty frame", pd.DataFrame()
    yield "frame by two keys", pd.DataFrame({"a": [1], "b": [2], "c": [3]}).set_index(["a", "b"])
    yield "frame of floats", pd.DataFrame(np.zeros((3, 3)), columns=list("abc"), index=days)
    yield "range index", pd.RangeIndex(3)
    moments = [pd.Timestamp("2026-01-01", tz="UTC"), pd.Timedelta(1), pd.NaT, pd.Period("2026")]
    yield "scalars", [*moments, pd.NA, pd.Interval(0, 1)]
    for frequency in ("D", "B", "MS", "ME", "QS", "YE", "W", "h", "min", "s"):
        yield f"offset {frequency}", pd.tseries.frequencies.to_offset(frequency)
    for kind in ("int64", "Int64", "string", "category", "datetime64[ns, UTC]", "period[M]", "interval[int64]"):
        yield f"dtype {kind}", pd.api.types.pandas_dtype(kind)


def boosting_values() -> Values:
    """Fitted models of LightGBM and XGBoost, through their own classes and scikit-learn's."""
    import lightgbm as lgb
    import numpy as np
    import xgboost as xgb

    x, y = np.random.default_rng(0).random((40, 3)), np.arange(40) % 2
    for kind in (lgb.LGBMClassifier, lgb.LGBMRegressor):
        yield kind.__name__, kind(n_estimators=2, min_child_samples=2, verbose=-1).fit(x, y)
    yield "lightgbm ranker", lgb.LGBMRanker(n_estimators=2, min_child_samples=2, verbose=-1).fit(x, y, group=[20, 20])
    yield "lightgbm booster", lgb.train({"verbose": -1, "min_data_in_leaf": 2}, lgb.Dataset(x, y), 2)
    for kind in (xgb.XGBClassifier, xgb.XGBRegressor, xgb.XGBRFClassifier, xgb.XGBRFRegressor):
        yield kind.__name__, kind(n_estimators=2).fit(x, y)
    yield "xgboost booster", xgb.train({}, xgb.DMatrix(x, y), 2)


def gensim_values() -> Values:
    """Models and dictionaries of gensim, trained on a few sentences."""
    from gensim import corpora, models

    texts = [["some", "words", "here"], ["more", "words", "there"]] * 5
    dictionary = corpora.Dictionary(texts)
    bags = [dictionary.doc2bow(text) for text in texts]
    yield "dictionary", dictionary
    yield "word2vec", models.Word2Vec(texts, vector_size=4, min_count=1, epochs=1)
    yield "fasttext", models.FastText(texts, vector_size=4, min_count=1, epochs=1, bucket=10)
    tagged = [models.doc2vec.TaggedDocument(text, [i]) for i, text in enumerate(texts)]
    yield "doc2vec", models.Doc2Vec(tagged, vector_size=4, min_count=1, epochs=1)
    yield "tfidf", models.TfidfModel(bags)
    yield "lsi", models.LsiModel(bags, num_topics=2, id2word=dictionary)
    yield "lda", models.LdaModel(bags, num_topics=2, id2word=dictionary)
    yield "phrases", models.Phrases(texts, min_count=1)
    yield "vectors", models.Word2Vec(texts, vector_size=4, min_count=1, epochs=1).wv


def omegaconf_values() -> Values:
    """Configurations as Lightning stores them in its checkpoints."""
    from omegaconf import DictConfig, ListConfig, OmegaConf

    yield "configuration", OmegaConf.create({"a": 1, "b": [1.5, "x", None, True], "c": {"d": "${a}"}, "e": b"x"})
    yield "list", ListConfig([1, DictConfig({"x": 2})])


def lightning_values() -> Values:
    """Metrics, and the dict of hyper-parameters."""
    import torchmetrics
    from pytorch_lightning.utilities.parsing import AttributeDict

    yield "hyper-parameters", AttributeDict(lr=1e-3)
    for kind in (torchmetrics.MeanMetric, torchmetrics.MeanSquaredError, torchmetrics.MeanAbsoluteError):
        yield kind.__name__, kind()
    yield "accuracy", torchmetrics.classification.BinaryAccuracy()
    yield "accuracy of classes", torchmetrics.classification.MulticlassAccuracy(3)


def statsmodels_values() -> Values:
    """Results of regressions."""
    import numpy as np
    import statsmodels.api as sm

    x = sm.add_constant(np.random.default_rng(0).random((30, 2)))
    y = np.arange(30) % 2
    yield "least squares", sm.OLS(y, x).fit()
    yield "logit", sm.Logit(y, x).fit(disp=0)
    yield "generalised", sm.GLM(y, x, family=sm.families.Binomial()).fit()


def encoder_values() -> Values:
    """Encoders of categories, fitted."""
    import category_encoders
    import pandas as pd

    frame = pd.DataFrame({"a": ["x", "y", "x", "z"], "b": [1, 2, 3, 4]})
    for name in category_encoders.__all__:
        kind = getattr(category_encoders, name)
        if inspect.isclass(kind):
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield name, kind(cols=["a"]).fit(frame, [0, 1, 0, 1])


def more_sklearn_values() -> Values:
    """What estimators are given: splitters, kernels, scorers, calibrators, bunches of data."""
    from sklearn import metrics, model_selection
    from sklearn.linear_model import Ridge
    from sklearn.utils import Bunch

    for name in model_selection.__all__:
        if name.startswith("Halving"):  # experimental: asking for them raises
            continue
        kind = getattr(model_selection, name)
        if inspect.isclass(kind) and hasattr(kind, "split"):
            for arguments in ((), (2,)):
                with contextlib.suppress(TypeError, ValueError):
                    yield name, kind(*arguments)
                    break
    for name in metrics.get_scorer_names():
        yield f"scorer {name}", metrics.get_scorer(name)
    yield "search", model_selection.GridSearchCV(Ridge(), {"alpha": [1]}, cv=model_selection.KFold(2, shuffle=True))
    yield "bunch", Bunch(a=1, when=datetime.date(2026, 1, 1))


LIBRARIES: dict[str, Callable[[], Values]] = {
    "pandas": pandas_values,
    "lightgbm": boosting_values,
    "xgboost": boosting_values,
    "gensim": gensim_values,
    "omegaconf": omegaconf_values,
    "pytorch_lightning": lightning_values,
    "torchmetrics": lightning_values,
    "statsmodels": statsmodels_values,
    "category_encoders": encoder_values,
    "sklearn": more_sklearn_values,
}
"""Import name → the values that its users pickle."""
