"""A fingerprint of features that no network has computed."""

from __future__ import annotations

from intertitle.pipeline.feature_store.fingerprint import Fingerprint

FINGERPRINT = Fingerprint(
    backbone="none",
    features="pooled",
    weights_sha256="0",
    preprocessing="none",
    precision="float32",
    sampling="uniform:2",
    size=8,
    shape=(3,),
    dtype="float32",
    format="arrow",
)
