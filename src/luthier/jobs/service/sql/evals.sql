-- name: add_eval
insert into evals (id, owner, created_at, updated_at, name, metadata, data)
values (:id, :owner, :now, :now, :name, :metadata, :data)

-- name: eval
select * from evals where id = :id and owner = :owner

-- name: evals_up
select * from evals
where owner = :owner and (:after is null or (iif(:by_update, updated_at, 0), seq) >
    (select iif(:by_update, updated_at, 0), seq from evals where id = :after))
order by iif(:by_update, updated_at, 0), seq limit :limit

-- name: evals_down
select * from evals
where owner = :owner and (:after is null or (iif(:by_update, updated_at, 0), seq) <
    (select iif(:by_update, updated_at, 0), seq from evals where id = :after))
order by iif(:by_update, updated_at, 0) desc, seq desc limit :limit

-- name: update_eval
update evals set name = coalesce(:name, name), metadata = iif(:with_metadata, :metadata, metadata), updated_at = :now
where id = :id and owner = :owner returning *

-- name: delete_eval
delete from evals where id = :id and owner = :owner returning id

-- name: add_eval_run
insert into eval_runs (id, eval_id, owner, created_at, name, model, status, metadata, data, metrics)
values (:id, :eval_id, :owner, :now, :name, :model, 'queued', :metadata, :data, :metrics)

-- name: eval_run
select * from eval_runs where id = :id and eval_id = :eval_id and owner = :owner

-- name: eval_runs_up
select * from eval_runs
where eval_id = :eval_id and owner = :owner and (:status is null or status = :status)
    and (:after is null or seq > (select seq from eval_runs where id = :after))
order by seq limit :limit

-- name: eval_runs_down
select * from eval_runs
where eval_id = :eval_id and owner = :owner and (:status is null or status = :status)
    and (:after is null or seq < (select seq from eval_runs where id = :after))
order by seq desc limit :limit

-- name: cancel_eval_run
update eval_runs set status = 'canceled'
where id = :id and eval_id = :eval_id and owner = :owner and status in ('queued', 'in_progress')

-- name: delete_eval_run
delete from eval_runs where id = :id and eval_id = :eval_id and owner = :owner returning id

-- name: claim_eval_run
update eval_runs set status = 'in_progress', attempt = attempt + 1
where id = (
    select id from eval_runs where status in ('queued', 'in_progress') order by status = 'queued', seq limit 1
) returning *

-- name: advance_eval_run
update eval_runs set metrics = :metrics, attempt = 1 where id = :id and status = 'in_progress' returning id

-- name: finish_eval_run
update eval_runs set status = :status, error = :error where id = :id and status = 'in_progress'

-- name: add_eval_item
insert into eval_items (id, run_id, eval_id, created_at, place, status, data)
values (:id, :run_id, :eval_id, :now, :place, :status, :data)

-- name: eval_items_done
select count(*) as done from eval_items where run_id = :run_id

-- name: eval_item
select * from eval_items where id = :id and run_id = :run_id

-- name: eval_items_up
select * from eval_items
where run_id = :run_id and (:status is null or status = :status)
    and (:after is null or place > (select place from eval_items where id = :after))
order by place limit :limit

-- name: eval_items_down
select * from eval_items
where run_id = :run_id and (:status is null or status = :status)
    and (:after is null or place < (select place from eval_items where id = :after))
order by place desc limit :limit
