"""A classifier with scikit-learn's habits; needs fewshot-sdk[sklearn]."""

from fewshot_sdk.sklearn.estimator import FewShotClassifier as FewShotClassifier

__all__ = ["FewShotClassifier"]
