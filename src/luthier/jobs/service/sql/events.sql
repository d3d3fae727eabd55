-- name: add_event
insert into events (id, job_id, key, created_at, level, message, type, data)
values (:id, :job_id, :key, :created_at, :level, :message, :type, :data)
on conflict (job_id, key) do nothing

-- name: event
select * from events where job_id = :job_id and id = :id

-- name: events
select * from events
where job_id = :job_id and (:after is null or seq < (select seq from events where id = :after))
order by seq desc limit :limit

-- name: step_data
select data from events where job_id = :job_id and type = 'metrics' order by seq
