"""Before the rooms: settle the plan, or take up the one an earlier process settled."""

from luthier.core.artifacts import Base
from luthier.core.errors import RecipeError
from luthier.core.events import Emit, Event
from luthier.core.files import write_atomic
from luthier.core.runfolder import RunFolder
from luthier.evaluate.harness import check_harness
from luthier.evaluate.user import check_user_metrics
from luthier.jobs.manifest import Manifest
from luthier.jobs.own_loss import check_loss_file, try_loss, with_loss_hash
from luthier.jobs.plan import as_plan, open_fields, plan_yaml, resolve
from luthier.jobs.rooms import Rooms
from luthier.recipe import Plan, Recipe
from luthier.recipe_io.read import check_recipe, load_recipe, recipe_yaml
from luthier.train.spec import check_base, check_data, is_seq2seq


def prepare(recipe: Recipe, folder: RunFolder, rooms: Rooms, emit: Emit) -> tuple[Plan, Base]:
    """Return the plan and the base model; the plan of a run never changes once it is written."""
    check_recipe(recipe)
    if folder.plan.exists() and folder.manifest.exists():
        plan = saved_plan(folder)
        base = rooms.base(plan.base_model, emit)
        Manifest.read(folder.manifest).check_same(plan, base, folder.path)
        return plan, base
    check_sources(recipe)
    write_atomic(folder.recipe, recipe_yaml(recipe))
    base = rooms.base(recipe.base_model, emit)
    plan = with_loss_hash(settle(recipe, base, rooms, emit))
    try_loss(plan, base)
    Manifest.of(plan, base).write(folder.manifest)
    write_atomic(folder.plan, plan_yaml(plan))
    return plan, base


def check_sources(recipe: Recipe) -> None:
    """Look for the data files before anything slow is begun."""
    from luthier.data.sources.find import find_sources

    data = recipe.data
    for name, paths in (("path", data.path), ("validation_path", data.validation_path), ("test_path", data.test_path)):
        if paths is not None:
            find_sources(paths, f"data.{name}")
    check_loss_file(recipe)
    check_user_metrics(recipe.evaluate)
    check_harness(recipe.evaluate.harness if recipe.evaluate else ())


def refuse_heads(recipe: Recipe, command: str) -> None:
    """Raise RecipeError for a method with a head or an encoder-decoder, where a command only knows causal models."""
    if recipe.train.method.heads:
        where = {"field": "train.method.name", "method": recipe.train.method.name}
        why = "it counts and compares written answers, and a head writes none"
        hint = "`luthier run RECIPE` measures the head against its own baselines"
        raise RecipeError(f"`luthier {command}` does not know methods with a head", where=where, why=why, hint=hint)
    if is_seq2seq(recipe.train.method):
        where = {"field": "train.method.name", "method": recipe.train.method.name}
        why = "it counts what a causal model goes on with"
        hint = "`luthier run RECIPE` measures the tuned model against baselines of its own"
        raise RecipeError(f"`luthier {command}` does not know encoder-decoders", where=where, why=why, hint=hint)


def settle(recipe: Recipe, base: Base, rooms: Rooms, emit: Emit) -> Plan:
    """Resolve what is open; data, model and machine are looked at only where something is."""
    check_base(recipe.train.method, base)
    if not open_fields(recipe):
        check_data(recipe.train.method, recipe.data.format)
        return as_plan(recipe, {})
    facts = rooms.facts(recipe, base, emit)
    check_data(recipe.train.method, facts.data.format)
    plan = resolve(recipe, facts)
    said = {reason.path: reason.because for reason in plan.reasons if reason.source == "resolved"}
    emit(Event(room="plan", kind="done", message=f"{len(said)} values resolved, each with its reason", data=said))
    return plan


def saved_plan(folder: RunFolder, overrides: tuple[str, ...] = ()) -> Plan:
    """Return the plan of a run."""
    plan = load_recipe(folder.plan, overrides)
    if not isinstance(plan, Plan):
        where, why = {"file": folder.plan}, "it has no `reasons`"
        raise RecipeError("this is not the plan of a run", where=where, why=why, hint="`luthier runs` lists the runs")
    return plan


def same_recipe(folder: RunFolder, recipe: Recipe) -> bool:
    """Tell whether a run was started from this recipe; one that another version wrote and this cannot read was not."""
    try:
        saved = load_recipe(folder.recipe)
    except RecipeError:
        return False
    return saved.model_dump(exclude={"reasons"}) == recipe.model_dump(exclude={"reasons"})
