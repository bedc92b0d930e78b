"""Fitted estimators of scikit-learn as joblib and pickle store them."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from tests.trust.corpus import Sample

_COMPRESSORS = (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3), ("lz4", 3))


def samples() -> Iterator[Sample]:
    """One file an estimator, through all compressors in turn."""
    import joblib

    for number, (what, estimator) in enumerate(fitted().items()):
        if number % 3 == 2:
            data, name = pickle.dumps(estimator, number % 4 + 2), "model.pkl"
        else:
            buffer = io.BytesIO()
            joblib.dump(estimator, buffer, compress=_COMPRESSORS[number % len(_COMPRESSORS)])
            data, name = buffer.getvalue(), "model.joblib"
        yield Sample(f"benign estimators/{what}", {name: data}, kind="benign")


def fitted() -> dict[str, Any]:
    """Estimators of all kinds, fitted on twenty rows."""
    from sklearn import (
        cluster,
        decomposition,
        discriminant_analysis,
        ensemble,
        feature_extraction,
        feature_selection,
        gaussian_process,
        impute,
        isotonic,
        kernel_approximation,
        linear_model,
        manifold,
        mixture,
        model_selection,
        multiclass,
        naive_bayes,
        neighbors,
        neural_network,
        pipeline,
        preprocessing,
        random_projection,
        svm,
        tree,
    )
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 4)), np.arange(24) % 2
    texts = [f"word{i % 5} and word{i % 3}" for i in range(24)]
    tabular: list[Any] = [
        linear_model.LogisticRegression(),
        linear_model.Ridge(),
        linear_model.SGDClassifier(max_iter=5),
        linear_model.Lasso(),
        linear_model.ElasticNetCV(cv=2),
        linear_model.Perceptron(),
        linear_model.HuberRegressor(),
        linear_model.BayesianRidge(),
        linear_model.RANSACRegressor(),
        linear_model.LogisticRegressionCV(cv=2),
        tree.DecisionTreeClassifier(),
        tree.DecisionTreeRegressor(),
        ensemble.RandomForestClassifier(3),
        ensemble.GradientBoostingClassifier(n_estimators=3),
        ensemble.HistGradientBoostingClassifier(max_iter=3),
        ensemble.AdaBoostClassifier(n_estimators=3),
        ensemble.BaggingClassifier(n_estimators=2),
        ensemble.IsolationForest(n_estimators=3),
        ensemble.ExtraTreesRegressor(3),
        ensemble.VotingClassifier([("a", naive_bayes.GaussianNB())]),
        ensemble.StackingClassifier([("a", naive_bayes.GaussianNB())], cv=2),
        svm.SVC(probability=False),
        svm.LinearSVC(),
        svm.SVR(),
        svm.OneClassSVM(),
        naive_bayes.GaussianNB(),
        naive_bayes.BernoulliNB(),
        neighbors.KNeighborsClassifier(3),
        neighbors.KNeighborsRegressor(3, algorithm="kd_tree"),
        neighbors.NearestCentroid(),
        neighbors.LocalOutlierFactor(n_neighbors=3),
        neighbors.KernelDensity(),
        neural_network.MLPClassifier(4, max_iter=5),
        neural_network.BernoulliRBM(2, n_iter=1),
        discriminant_analysis.LinearDiscriminantAnalysis(),
        gaussian_process.GaussianProcessClassifier(),
        gaussian_process.GaussianProcessRegressor(),
        cluster.KMeans(2),
        cluster.DBSCAN(),
        cluster.AgglomerativeClustering(),
        cluster.Birch(n_clusters=2),
        cluster.MiniBatchKMeans(2),
        decomposition.PCA(2),
        decomposition.TruncatedSVD(2),
        decomposition.FastICA(2),
        decomposition.FactorAnalysis(2),
        mixture.GaussianMixture(2),
        mixture.BayesianGaussianMixture(n_components=2),
        manifold.Isomap(n_neighbors=4),
        preprocessing.StandardScaler(),
        preprocessing.MinMaxScaler(),
        preprocessing.OneHotEncoder(),
        preprocessing.PolynomialFeatures(2),
        preprocessing.QuantileTransformer(n_quantiles=5),
        preprocessing.PowerTransformer(),
        preprocessing.KBinsDiscretizer(3),
        preprocessing.FunctionTransformer(np.log1p),
        preprocessing.SplineTransformer(),
        impute.SimpleImputer(),
        impute.KNNImputer(),
        feature_selection.SelectKBest(k=2),
        feature_selection.VarianceThreshold(),
        feature_selection.RFE(linear_model.Ridge(), n_features_to_select=2),
        kernel_approximation.RBFSampler(n_components=4),
        random_projection.GaussianRandomProjection(2),
        multiclass.OneVsRestClassifier(svm.LinearSVC()),
        CalibratedClassifierCV(naive_bayes.GaussianNB(), cv=2),
        TransformedTargetRegressor(linear_model.Ridge(), func=np.exp, inverse_func=np.log),
        pipeline.make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(2), linear_model.LogisticRegression()),
        model_selection.GridSearchCV(linear_model.Ridge(), {"alpha": [1, 2]}, cv=2),
        ColumnTransformer([("a", preprocessing.StandardScaler(), [0, 1]), ("b", "passthrough", [2])]),
        pipeline.make_union(decomposition.PCA(1), preprocessing.StandardScaler()),
    ]
    words: list[Any] = [
        feature_extraction.text.CountVectorizer(),
        feature_extraction.text.TfidfVectorizer(ngram_range=(1, 2)),
        feature_extraction.text.HashingVectorizer(n_features=16),
        pipeline.make_pipeline(feature_extraction.text.TfidfVectorizer(), linear_model.LogisticRegression()),
        pipeline.make_pipeline(feature_extraction.text.CountVectorizer(), naive_bayes.MultinomialNB()),
        pipeline.make_pipeline(
            feature_extraction.text.TfidfVectorizer(), decomposition.LatentDirichletAllocation(2, max_iter=1)
        ),
    ]
    with warnings.catch_warnings(action="ignore"):
        found = {_title(item, i): item.fit(x, y) for i, item in enumerate(tabular)}
        found |= {f"{_title(item, i)} of texts": item.fit(texts, y) for i, item in enumerate(words)}
        found["IsotonicRegression"] = isotonic.IsotonicRegression().fit(x[:, 0], y)
        found["LabelEncoder"] = preprocessing.LabelEncoder().fit(["a", "b"])
        found["DictVectorizer"] = feature_extraction.DictVectorizer().fit([{"a": 1.0}])
    return found


def _title(estimator: Any, number: int) -> str:
    return f"{type(estimator).__name__} {number}"
