"""The export of a run again, with other limits, or of a classifier that was never distilled."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Annotated, Any

import typer

from understudy.cli.dials import AsJson
from understudy.cli.progress import listening
from understudy.cli.results import failed_gates, print_json, say_failed, show_run


def export(
    what: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, or a transformers classifier.")],
    bits: Annotated[str | None, typer.Option("--bits", metavar="8|4", help="4: tables of lookup students.")] = None,
    max_drop: Annotated[
        str | None, typer.Option("--max-drop", metavar="POINTS", help="Gate: most points that INT8 may lose.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="D", help="Labelled rows for the gates of a MODEL.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="Column of the text.")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="Column of the label.")] = None,
    image: Annotated[str | None, typer.Option("--image", metavar="COLUMN", help="Column of the image.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Folder of a MODEL's export (default: exports/NAME).")
    ] = None,
    single_file: Annotated[
        str | None, typer.Option("--single-file", metavar="FILE", help="Write the artefact as one file, too.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Exports the student of a run, or any classifier, to INT8 and puts it through its gates.

    Where INT8 loses more than --max-drop, the nodes that it hurts most stay in fp32; where that does not do, training
    goes on with rounding inside it. Exit code 5: no rung held, and what was made lies in rejected/.

    \b
    Examples:
      understudy export runs/tickets
      understudy export runs/tickets --max-drop 0.2 --single-file tickets.artefact
      understudy export ./my-bert --data ./tickets --out exports/my-bert
    """
    limits = {"export.bits": bits, "export.max_drop": max_drop}
    columns = {"data.text": text, "data.label": label, "data.image": image}
    if _is_model(what, data):
        return _model(what, data, out, {**limits, **columns}, single_file, as_json=as_json)
    from understudy.errors import UsageError

    foreign = {"--data": data, "--out": out, "--text": text, "--label": label, "--image": image}
    said = [name for name, value in foreign.items() if value is not None]
    if said:
        raise UsageError(f"{', '.join(said)}: {what} is a run, which has rows and a folder of its own; leave it out")
    from understudy.pipeline import stage

    with listening() as progress:
        done = stage("export", Path(what), changes=limits, progress=progress)
    _as_one(done.folder, single_file)
    return show_run(done, as_json=as_json)


def _is_model(what: str, data: str | None) -> bool:
    """A folder that a run has begun is a run; what has a config, or comes with data, is a model."""
    folder = Path(what)
    begun = (folder / "stages").is_dir() or (folder / "recipe.yaml").is_file()
    return not begun and ((folder / "config.json").is_file() or data is not None)


def _as_one(folder: Path, path: str | None) -> None:
    """The artefact in a folder as one file, where one is asked for and every gate held."""
    from understudy.export import single_file

    if path is not None and (folder / "artefact").is_dir():
        single_file(folder, path)


def _model(
    what: str, data: str | None, out: str | None, said: dict[str, str | None], single_file: str | None, *, as_json: bool
) -> int:
    from understudy.errors import UsageError

    if data is None:
        raise UsageError(
            f"{what} is a model, so export needs --data: labelled rows, whose validation split decides its gates"
        )
    from understudy.pipeline import export_model

    folder = Path(out) if out is not None else Path("exports") / (PurePath(what).name or "model")
    dials: dict[str, Any] = {key.replace(".", "__"): value for key, value in said.items() if value is not None}
    with listening() as progress:
        facts = export_model(what, data, folder, progress=progress, **dials)
    _as_one(folder, single_file)
    if as_json:
        print_json({**facts, "path": str(folder / facts["folder"])})
    else:
        from understudy.cli.screens import show_ladder

        show_ladder(facts)
        print(folder / facts["folder"])
    return say_failed(failed_gates({"verdict": {"gates": facts["gates"]}}))
