"""Deployments: Azure's names for models that are served."""

import json
import time
from typing import Any

from luthier.jobs.service.catalogue import Catalogue
from luthier.jobs.service.database import Database, as_record
from luthier.jobs.service.records import DeploymentRecord
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.settings import NAME

LONGEST_SKU = 1000


class Deployments:
    """The deployments of all projects."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self.database = database
        self.catalogue = catalogue

    def put(self, name: str, model: str, owner: str, sku: dict[str, Any] | None = None) -> DeploymentRecord:
        """Give a model a name, or a name another model."""
        if not NAME.fullmatch(name):
            what = (
                "A deployment's name has 1 to 64 letters, digits, '.', '_' and '-'; it begins with a letter or digit."
            )
            raise Refusal(what, param="name")
        if len(json.dumps(sku or {})) > LONGEST_SKU:
            raise Refusal("The sku is too long.", param="sku")
        served = self.catalogue.resolve(model, owner)
        values = {"model": served.name, "sku": sku or {}, "created_at": int(time.time())}
        return as_record(DeploymentRecord, self.database.query("put_deployment", id=name, owner=owner, **values)[0])

    def get(self, name: str, owner: str) -> DeploymentRecord:
        """Return a deployment."""
        row = self.database.one("deployment", id=name, owner=owner)
        if row is None:
            raise no_deployment(name)
        return as_record(DeploymentRecord, row)

    def list(self, owner: str) -> list[DeploymentRecord]:
        """Return a project's deployments, oldest first."""
        return [as_record(DeploymentRecord, row) for row in self.database.query("deployments", owner=owner)]

    def delete(self, name: str, owner: str) -> None:
        """Take the name away; the model stays."""
        if self.database.one("delete_deployment", id=name, owner=owner) is None:
            raise no_deployment(name)


def no_deployment(name: str) -> Refusal:
    """Return Azure's words for a deployment that is not there."""
    what = "The API deployment for this resource does not exist."
    return Refusal(what, status=404, code="DeploymentNotFound", param=None)
