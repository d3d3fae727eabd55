-- name: add_key
insert into keys (id, created_at, name, hash, last4, project_id, admin)
values (:id, :created_at, :name, :hash, :last4, :project_id, :admin)
returning *

-- name: key_by_hash
select * from keys where hash = :hash and revoked_at is null

-- name: keys
select * from keys order by seq

-- name: revoke_key
update keys set revoked_at = coalesce(revoked_at, :now) where id = :id returning *
