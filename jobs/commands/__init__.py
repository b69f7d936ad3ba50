"""Commands of the program, a module each.

The module of a command is imported when the command is called: importing all of them takes several
times as long as printing the help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import typer

_DATA, _TRAIN, _USE, _COMPARE, _OPERATE = "Data", "Train", "Use", "Compare", "Operate"


@dataclass(frozen=True, slots=True)
class Command:
    """Command in the help of the program.

    Attributes:
        name: name of the command.
        target: module below `jobs.commands` and its function or group of commands.
        panel: panel of the help.
        help: first paragraph of the docstring of the function.
        example: arguments of an example.
        context: settings of Click's context.
    """

    name: str
    target: str
    panel: str
    help: str
    example: str
    context: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the command."""
        module, name = self.target.split(":")
        target = getattr(import_module(f"intertitle.jobs.commands.{module}"), name)
        group, epilog = typer.Typer(), f"Example: intertitle {self.example}"
        if isinstance(target, typer.Typer):
            group.add_typer(target, name=self.name, epilog=epilog)
        else:
            group.command(self.name, epilog=epilog, context_settings=dict(self.context))(target)
        return typer.main.get_group(group).commands[self.name]


# In the order of the help.
COMMANDS = {
    command.name: command
    for command in (
        Command(
            "import",
            "import_:import_corpus",
            _DATA,
            "Create a corpus from a published data set, a folder, or clips drawn by the program.",
            "import folder photos --out corpus",
        ),
        Command(
            "check",
            "check.command:check",
            _DATA,
            "Check a corpus: sizes, lengths, vocabulary, and duplicates within and across its "
            "splits.",
            "check corpus --page check.html --fix-leaks clean",
        ),
        Command(
            "precompute",
            "precompute:precompute_features",
            _DATA,
            "Extract frames and compute their features; a rerun processes only new or changed "
            "items.",
            "precompute corpus --out features --frames 8",
        ),
        Command(
            "import-features",
            "import_features:import_computed",
            _DATA,
            "Make a feature store from features that another program computed.",
            "import-features clip.npz --corpus corpus --network clip-vit-b32 --out features",
        ),
        Command(
            "inspect",
            "inspect_:inspect_store",
            _DATA,
            "Inspect a store: its counts, its quarantined items, and the frames its features come "
            "from.",
            "inspect features --corpus corpus --contact-sheet sheet.png",
        ),
        Command(
            "export",
            "export.command:export",
            _DATA,
            "Export a corpus, features, predictions or a model in the formats of other programs.",
            "export captions.jsonl results.json --to coco --corpus corpus",
        ),
        Command(
            "gc",
            "gc_:collect_garbage",
            _DATA,
            "Remove the files of a store that neither its current snapshot nor a kept one "
            "references.",
            "gc features --dry-run",
        ),
        Command(
            "train",
            "train:train_recipe",
            _TRAIN,
            "Train a recipe on one or more workers, as one MLflow run.",
            "train show_and_tell --corpus corpus --features features --name first",
        ),
        Command(
            "reproduce",
            "reproduce:make_table",
            _TRAIN,
            "Train the missing models of a table, evaluate them, and print the table.",
            "reproduce captions --data datasets --out page.html",
        ),
        Command(
            "demo",
            "demo:demo",
            _TRAIN,
            "Draw clips, extract frames, compute features, train S2VT on two workers, and evaluate "
            "it.",
            "demo --workdir demo",
        ),
        Command(
            "recipes",
            "recipes:list_recipes",
            _TRAIN,
            "List the recipes, or describe one: its paper, its settings and their defaults.",
            "recipes attend_and_tell",
        ),
        Command(
            "backbones",
            "backbones:list_backbones",
            _TRAIN,
            "List the networks for `precompute --backbone`, with the sizes of their features.",
            "backbones",
        ),
        Command(
            "predict",
            "predict.command:predict",
            _USE,
            "Caption files, answer a question about them, or translate or classify texts.",
            "predict first photo.jpg",
        ),
        Command(
            "serve",
            "serve:serve",
            _USE,
            "Serve models over HTTP, on Ray Serve: an API with its description at /docs, and a "
            "page.",
            "serve models:/captions@champion --port 8000",
        ),
        Command(
            "evaluate",
            "evaluate:evaluate",
            _COMPARE,
            "Generate predictions for a split, score them, and log the scores to the run.",
            "evaluate first --split val --beam 5",
        ),
        Command(
            "compare",
            "compare:compare_runs",
            _COMPARE,
            "Compare runs: which are better, by how much, and on which examples.",
            "compare first second --out page.html",
        ),
        Command(
            "report",
            "report:report",
            _COMPARE,
            "Write a page of a run: its scores, curves, and its best and worst examples.",
            "report first --out report.html",
        ),
        Command(
            "runs",
            "runs:list_runs",
            _COMPARE,
            "List trainings with their scores, the newest first.",
            "runs --limit 5",
        ),
        Command(
            "models",
            "models:list_models",
            _COMPARE,
            "List the registered models: versions, champion and challenger.",
            "models",
        ),
        Command(
            "ui",
            "ui:show_runs",
            _COMPARE,
            "Open MLflow's page at the table of trainings with their scores.",
            "ui",
        ),
        Command(
            "retrain",
            "retrain:retrain",
            _OPERATE,
            "Look for new data, train a challenger, and promote it if it passes the gate.",
            "retrain config.toml --slot 2026-12-01T03:00:00+00:00 --if-new",
        ),
        Command(
            "schedule",
            "schedule:schedule",
            _OPERATE,
            "Run the slots of a retraining at their times, one at a time and each once.",
            'schedule config.toml --cron "0 3 * * *"',
        ),
        Command(
            "promote",
            "registry:promote",
            _OPERATE,
            "Make a run's model the champion, which models:/NAME@champion refers to.",
            "promote first --model captions",
        ),
        Command(
            "rollback",
            "registry:rollback",
            _OPERATE,
            "Restore the previous champion; each further call goes back by one more.",
            "rollback captions",
        ),
        Command(
            "sync",
            "sync:sync",
            _OPERATE,
            "Send to MLflow what runs recorded while it was unavailable.",
            "sync checkpoints",
        ),
        Command(
            "submit",
            "submit:submit",
            _OPERATE,
            "Run a command as a job of a Ray cluster, and exit with its exit code.",
            "submit -- intertitle train s2vt --corpus c --features f",
            # Options after the name of the submitted command belong to that command.
            {"allow_interspersed_args": False},
        ),
        Command(
            "jobs",
            "jobs_:app",
            _OPERATE,
            "List the jobs of a cluster, print their logs, and stop them.",
            "jobs list",
        ),
    )
}
