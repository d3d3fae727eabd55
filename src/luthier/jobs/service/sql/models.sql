-- name: add_model
insert into models (id, owner, created_at, owned_by, base, adapter, job_id)
values (:id, :owner, :created_at, :owned_by, :base, :adapter, :job_id)
on conflict (id) do nothing

-- name: models
select * from models where owner = :owner order by seq

-- name: model
select * from models
where id = :id
    and (owner = :owner or exists (select 1 from permissions where checkpoint = :id and project_id = :owner))

-- name: own_model
select * from models where id = :id and owner = :owner

-- name: delete_model
delete from models where id = :id

-- name: add_checkpoint
insert into checkpoints (id, job_id, model, created_at, step, metrics)
values (:id, :job_id, :model, :created_at, :step, :metrics)
on conflict (id) do nothing

-- name: checkpoint
select * from checkpoints where job_id = :job_id and id = :id

-- name: checkpoints
select * from checkpoints
where job_id = :job_id and (:after is null or step < (select step from checkpoints where id = :after))
order by step desc limit :limit

-- name: checkpoint_adapters
select checkpoints.model, models.adapter
from checkpoints join models on models.id = checkpoints.model
where checkpoints.job_id = :job_id

-- name: delete_checkpoint
delete from checkpoints where model = :model

-- name: checkpoint_owner
select models.owner from checkpoints join models on models.id = checkpoints.model
where checkpoints.model = :model and models.owner = :owner

-- name: add_permission
insert into permissions (id, checkpoint, project_id, created_at)
values (:id, :checkpoint, :project_id, :created_at)
on conflict (checkpoint, project_id) do nothing

-- name: permission_for
select * from permissions where checkpoint = :checkpoint and project_id = :project_id

-- name: permission
select * from permissions where checkpoint = :checkpoint and id = :id

-- name: permissions_down
select * from permissions
where checkpoint = :checkpoint and (:project_id is null or project_id = :project_id)
    and (:after is null or seq < (select seq from permissions where id = :after))
order by seq desc limit :limit

-- name: permissions_up
select * from permissions
where checkpoint = :checkpoint and (:project_id is null or project_id = :project_id)
    and (:after is null or seq > (select seq from permissions where id = :after))
order by seq limit :limit

-- name: delete_permission
delete from permissions where checkpoint = :checkpoint and id = :id returning id

-- name: delete_permissions
delete from permissions where checkpoint = :checkpoint

-- name: put_deployment
insert into deployments (id, owner, created_at, model, sku) values (:id, :owner, :created_at, :model, :sku)
on conflict (owner, id) do update set model = excluded.model, sku = excluded.sku
returning *

-- name: deployment
select * from deployments where id = :id and owner = :owner

-- name: deployments
select * from deployments where owner = :owner order by seq

-- name: deployed
select id from deployments where model = :model and owner = :owner limit 1

-- name: delete_deployment
delete from deployments where id = :id and owner = :owner returning id
