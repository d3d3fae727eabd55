-- Evals, their runs and what came of each row. `data` holds the shapes as JSON; `metrics` a run's counts so far.

create table evals (
    seq integer primary key autoincrement,
    id text not null unique,
    owner text not null,
    created_at integer not null,
    updated_at integer not null,
    name text not null,
    metadata text,
    data text not null
) strict;
create index evals_by_owner on evals (owner, seq);

create table eval_runs (
    seq integer primary key autoincrement,
    id text not null unique,
    eval_id text not null references evals (id) on delete cascade,
    owner text not null,
    created_at integer not null,
    name text not null,
    model text not null,
    status text not null check (status in ('queued', 'in_progress', 'completed', 'failed', 'canceled')),
    metadata text,
    data text not null,
    metrics text not null,
    error text,
    -- How often a server has begun to work on it since the last row that was done.
    attempt integer not null default 0
) strict;
create index eval_runs_by_eval on eval_runs (eval_id, seq);
create index eval_runs_by_status on eval_runs (status, seq);

create table eval_items (
    seq integer primary key autoincrement,
    id text not null unique,
    run_id text not null references eval_runs (id) on delete cascade,
    eval_id text not null,
    created_at integer not null,
    place integer not null,
    status text not null check (status in ('pass', 'fail', 'error')),
    data text not null,
    unique (run_id, place)
) strict;
