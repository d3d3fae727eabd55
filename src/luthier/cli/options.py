"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value of the recipe: train.learning_rate=1e-4."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name in `runs`.")]
Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Data files, or one recipe.yaml.")]
BaseModel = Annotated[
    str | None, typer.Option("--base-model", metavar="MODEL", help="Whose template and tokens to use.")
]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, or a run's plan.yaml.")]
Home = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="The service's folder (LUTHIER_HOME, else ~/.luthier).")
]
