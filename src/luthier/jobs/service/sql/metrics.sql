-- name: count_jobs_by_status
select status, count(*) as jobs from jobs group by status;
