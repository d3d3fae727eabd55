"""A loss of the user's own in a run: its hash goes into the plan, and it is tried before anything slow is begun."""

from pathlib import Path

from luthier.core.artifacts import Base
from luthier.core.files import sha256_of
from luthier.jobs.plan import replaced
from luthier.recipe import Plan, Recipe
from luthier.train.methods.embed.spec import KINDS, EmbedSpec, LossFile


def loss_file(recipe: Recipe) -> LossFile | None:
    """Return the file that a recipe's loss is in; None where it names one of Luthier's."""
    method = recipe.train.method
    return method.loss if isinstance(method, EmbedSpec) and isinstance(method.loss, LossFile) else None


def check_loss_file(recipe: Recipe) -> None:
    """Refuse a file that is not there, or not the one a plan was made with."""
    loss = loss_file(recipe)
    if loss is not None:
        from luthier.train.methods.embed.own import check_file

        check_file(loss)


def with_loss_hash(plan: Plan) -> Plan:
    """Return the plan with the hash of the loss's file."""
    loss = loss_file(plan)
    return plan if loss is None else replaced(plan, "train.method.loss.sha256", sha256_of(Path(loss.file)))


def try_loss(plan: Plan, base: Base) -> None:
    """Refuse a loss that does not take what the plan's rows give it."""
    loss = loss_file(plan)
    if loss is not None:
        from luthier.model.headed import vector_size
        from luthier.train.methods.embed.own import check_own_loss

        check_own_loss(loss, KINDS[plan.data.format], size=vector_size(base.folder))
