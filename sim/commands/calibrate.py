"""`calibrate`: measured kernel times -> the constants of an accelerator, with their errors on times not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.commands import output
from sim.commands.output import Answer
from sim.errors import InputError
from sim.written_files import make_folder, write_text

if TYPE_CHECKING:
    from sim.cost.fitting import Errors


def calibrate(files: list[str], device: str | None, model: str | None, apply: str | None, out: str | None) -> Answer:
    """Fit, write, and tell errors; or judge the constants of `apply`. Raises InputError for bad files and names."""
    from sim.cost import calibration as calibrations
    from sim.cost import fitting
    from sim.cost.timings import read_timings
    from sim.llm.models import load_model

    constants = None if apply is None else calibrations.load_calibration(apply)
    name = device if device is not None else constants.gpu if constants else None
    if name is None:
        raise InputError("which accelerator?", expected=f"--device, one of {', '.join(calibrations.gpu_names())}")
    gpu = calibrations.load_gpu(name)
    timings = read_timings(files, None if model is None else load_model(model))
    if constants is not None:
        if out is not None:
            raise InputError("--apply fits nothing, so that there is nothing to write to", value=out)
        errors, missing = fitting.judge(timings, gpu, constants)
        left_out = [*timings.left_out, *(f"{one}: no constants in {constants.name}" for one in missing)]
        return _answer(gpu.name, timings.models, errors, left_out, None)
    target = Path(out) if out is not None else Path("results") / f"{gpu.name}.yaml"
    if target.suffix not in (".yaml", ".yml"):
        raise InputError("a calibration is a YAML file:", value=str(target), expected="--out NAME.yaml")
    source = ", ".join(Path(file).name for file in files)
    fit = fitting.fit(timings, gpu, target.stem, source)
    make_folder(target.parent)
    write_text(target, calibrations.written(fit.calibration))
    return _answer(gpu.name, timings.models, fit.errors, fit.left_out, target)


def _answer(gpu: str, models: Any, errors: Sequence[Errors], left_out: Sequence[str], target: Path | None) -> Answer:
    families = [_document(one) for one in errors]
    written = None if target is None else str(target)
    document = {"device": gpu, "models": models, "families": families, "left_out": left_out, "calibration": written}
    columns = ["kernels", "fitted to", "held out", "median error", "p90", "signed median"]
    notes = [f"left out: {one}" for one in left_out] + ([] if written is None else [f"calibration: {written}"])
    return Answer(document, families, lambda: output.table(columns, map(_row, errors)), notes)


def _document(one: Errors) -> dict[str, Any]:
    counts = {"fitted": one.fitted, "held_out": one.held_out}
    return {"name": one.name.strip(), **counts, "median": one.median, "p90": one.p90, "signed_median": one.bias}


def _row(one: Errors) -> list[str]:
    shares = (f"{one.median:.1%}", f"{one.p90:.1%}", f"{one.bias:+.1%}")
    return [one.name, f"{one.fitted:,}", f"{one.held_out:,}", *shares]
