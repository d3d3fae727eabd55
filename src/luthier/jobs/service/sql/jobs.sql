-- name: add_job
insert into jobs (
    id, owner, created_at, model, base, method, old_style, status, training_file, validation_file, suffix, seed,
    metadata, integrations, hyperparameters
)
values (
    :id, :owner, :created_at, :model, :base, :method, :old_style, :status, :training_file, :validation_file, :suffix,
    :seed, :metadata, :integrations, :hyperparameters
)

-- name: job
select * from jobs where id = :id

-- name: job_of
select * from jobs where id = :id and owner = :owner

-- name: jobs
select * from jobs
where owner = :owner
    and (:after is null or seq < (select seq from jobs where id = :after))
    and (not :no_metadata or metadata is null)
    and not exists (
        select 1 from json_each(:wanted) as pair
        where pair.value is not (select have.value from json_each(jobs.metadata) as have where have.key = pair.key)
    )
order by seq desc limit :limit

-- name: job_ids
select id from jobs

-- name: unchecked_job
select * from jobs where status = 'validating_files' order by seq limit 1

-- name: claim_job
update jobs set status = 'running', attempt = attempt + 1, lease_until = :lease_until
where id = (select id from jobs where status = 'queued' order by seq limit 1)
returning *

-- name: move_job
update jobs set
    status = :status,
    lease_until = case when :status in ('running', 'pausing') then lease_until end,
    estimated_finish = case when :status in ('running', 'pausing') then estimated_finish end,
    finished_at = :finished_at,
    error = :error
where id = :id
    and status in (select value from json_each(:among))
    and (:attempt is null or attempt = :attempt)
returning *

-- name: hold_job
update jobs set lease_until = :lease_until
where id = :id and attempt = :attempt and status in ('running', 'pausing')
returning id

-- name: told_step
update jobs set last_step = max(last_step, :step), estimated_finish = :estimated_finish
where id = :id

-- name: settle_job
update jobs set hyperparameters = :hyperparameters where id = :id

-- name: succeed_job
update jobs set
    fine_tuned_model = :fine_tuned_model, result_files = :result_files, trained_tokens = :trained_tokens
where id = :id

-- name: crash_job
update jobs set
    crashes = case when last_step > crash_step then 1 else crashes + 1 end,
    crash_step = last_step
where id = :id
returning crashes

-- name: jobs_at_work
select id, status, attempt, lease_until from jobs where status in ('running', 'pausing')
