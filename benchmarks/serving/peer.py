"""A usual server for comparison: the zoo's DIEN in a FastAPI handler.

The handler repeats the user's row for each candidate. `benchmarks.serving` runs it in its own process; it needs a
FuxiCTR checkout and `pip install fastapi`.
"""

import argparse
import socket
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.experiment.checkout import Checkout
from dien_fuxictr.serving.bundle import open_bundle

from ..synthetic_batches import Sizes
from ..systems import NO_AUX, keywords


class ScoreRequest(BaseModel):
    """Body of a request."""

    user: dict[str, str | list[str]]
    candidates: dict[str, list[str]]


class ScoreAnswer(BaseModel):
    """Body of an answer."""

    scores: list[float]


def application(bundle_folder: Path, zoo: Path) -> FastAPI:
    """Build the application with the vocabularies and sizes of the bundle."""
    bundle = open_bundle(bundle_folder)
    sizes = Sizes(max_len=next(c["max_len"] for c in bundle.encoder.columns if c["type"] == "sequence"))
    model = Checkout(zoo).model_class("DIEN")(
        bundle.model.feature_map, dien_neg_seq_field=[], **keywords(sizes, NO_AUX)
    )
    model.eval()
    app = FastAPI()
    encode = _Encode(bundle.encoder)

    @app.post("/v1/score")
    def score(request: ScoreRequest) -> ScoreAnswer:
        count = len(request.candidates["item_id"])
        inputs = {name: torch.tensor(encode(name, values)) for name, values in request.candidates.items()}
        for name, values in request.user.items():
            ids = encode(name, values if isinstance(values, list) else [values])
            row = torch.tensor(ids + [0] * (sizes.max_len - len(ids)) if isinstance(values, list) else ids)
            inputs[name] = row.expand(count, -1) if isinstance(values, list) else row.expand(count)
        with torch.no_grad():
            return ScoreAnswer(scores=model(inputs)["y_pred"].squeeze(1).tolist())

    @app.get("/v2/health/ready")
    def ready() -> bool:
        return True

    return app


class _Encode:
    def __init__(self, encoder: Encoder) -> None:
        self._columns: dict[str, Any] = {column["name"]: column for column in encoder.columns}
        self._vocabularies = encoder.vocabularies

    def __call__(self, name: str, values: list[str]) -> list[int]:
        vocabulary = self._vocabularies[self._columns[name]["vocabulary"]]
        return [vocabulary.get(value, vocabulary["__OOV__"]) for value in values]


def main() -> None:
    """Serve until SIGTERM; print the address first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.peer", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    parser.add_argument("--zoo", type=Path, required=True, metavar="DIR", help="FuxiCTR checkout")
    options = parser.parse_args()
    torch.set_num_threads(1)
    app = application(options.bundle, options.zoo)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


if __name__ == "__main__":
    sys.exit(main())
