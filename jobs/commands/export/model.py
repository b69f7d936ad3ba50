"""Models of runs as folders with a model card, for a hub or for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from intertitle.jobs import console
from intertitle.jobs.tracking import find_run, tracking_store
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.export.output import Exported, check_new

MODEL_FORMATS = ("hf", "onnx")


def export_model(
    name: str, format: str, out: Path, license: str, tracking_uri: str | None
) -> Exported:
    """Write the model of a run to a new folder, with a model card in README.md.

    Args:
        name: name or id of the run, or models:/NAME@ALIAS.
        format: "hf" for the files that Intertitle loads, "onnx" for ONNX files.
        out: new folder.
        license: licence of the weights.
        tracking_uri: MLflow tracking URI; None for the default.

    Raises:
        UserError: there is no such run, it has no model, the model can't be exported, the format is
            not known, or `out` exists.
    """
    if format not in MODEL_FORMATS:
        raise UserError(
            f"--to {format}: allowed for a run: {', '.join(MODEL_FORMATS)}; no file or folder "
            f"{name} is there"
        )
    check_new(out)
    run = find_run(name, tracking_store(tracking_uri))
    with console.step("exporting the model"):
        from intertitle.training.export.model_card import model_card, read_evaluations
        from intertitle.training.export.onnx_export import export_onnx
        from intertitle.training.inference.model_bundle import load_trained

        trained = load_trained(run)
        card = model_card(trained, run, read_evaluations(run, trained), license)
        if format == "onnx":
            export_onnx(trained, out)
        else:
            trained.write(out)
        (out / "README.md").write_text(card, "utf-8")
    return Exported(files=len(list(out.iterdir())))
