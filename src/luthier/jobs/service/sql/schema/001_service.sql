-- Files, uploads, keys, jobs and models. `seq` is the order in which things came; lists are paged by it.

create table files (
    seq integer primary key autoincrement,
    id text not null unique,
    owner text not null,
    created_at integer not null,
    bytes integer not null,
    filename text not null,
    purpose text not null,
    status text not null,
    status_details text,
    expires_at integer
) strict;
create index files_by_owner on files (owner, seq);

create table uploads (
    seq integer primary key autoincrement,
    id text not null unique,
    owner text not null,
    created_at integer not null,
    bytes integer not null,
    filename text not null,
    purpose text not null,
    mime_type text not null,
    status text not null check (status in ('pending', 'completed', 'cancelled', 'expired')),
    expires_at integer not null,
    file_expires_after integer,
    file_id text
) strict;

create table parts (
    id text primary key,
    upload_id text not null references uploads (id) on delete cascade,
    created_at integer not null,
    bytes integer not null
) strict;
create index parts_by_upload on parts (upload_id);

create table keys (
    seq integer primary key autoincrement,
    id text not null unique,
    created_at integer not null,
    name text not null,
    hash text not null unique,
    last4 text not null,
    project_id text not null,
    admin integer not null,
    revoked_at integer
) strict;

create table jobs (
    seq integer primary key autoincrement,
    id text not null unique,
    owner text not null,
    created_at integer not null,
    model text not null,
    base text not null,
    method text not null,
    old_style integer not null,
    status text not null check (status in (
        'validating_files', 'queued', 'running', 'pausing', 'paused', 'succeeded', 'failed', 'cancelled'
    )),
    training_file text not null,
    validation_file text,
    suffix text,
    seed integer not null,
    metadata text,
    integrations text,
    hyperparameters text not null,
    fine_tuned_model text,
    result_files text not null default '[]',
    trained_tokens integer,
    finished_at integer,
    estimated_finish integer,
    error text,
    attempt integer not null default 0,
    -- Seconds of the machine's monotonic clock; a job is lost when its worker has not renewed it by then.
    lease_until real,
    -- The furthest step told so far, what it was at the last crash, and crashes in a row without progress.
    last_step integer not null default 0,
    crash_step integer not null default -1,
    crashes integer not null default 0
) strict;
create index jobs_by_owner on jobs (owner, seq);
create index jobs_by_status on jobs (status, seq);

create table events (
    seq integer primary key autoincrement,
    id text not null unique,
    job_id text not null references jobs (id),
    key text not null,
    created_at integer not null,
    level text not null,
    message text not null,
    type text not null,
    data text,
    unique (job_id, key)
) strict;
create index events_by_job on events (job_id, seq);

create table models (
    seq integer primary key autoincrement,
    id text not null unique,
    owner text not null,
    created_at integer not null,
    owned_by text not null,
    base text not null,
    adapter text not null,
    job_id text not null references jobs (id)
) strict;
create index models_by_owner on models (owner, seq);

create table checkpoints (
    seq integer primary key autoincrement,
    id text not null unique,
    job_id text not null references jobs (id),
    model text not null unique,
    created_at integer not null,
    step integer not null,
    metrics text not null,
    unique (job_id, step)
) strict;

create table permissions (
    seq integer primary key autoincrement,
    id text not null unique,
    checkpoint text not null,
    project_id text not null,
    created_at integer not null,
    unique (checkpoint, project_id)
) strict;

create table deployments (
    seq integer primary key autoincrement,
    id text not null,
    owner text not null,
    created_at integer not null,
    model text not null,
    sku text not null,
    unique (owner, id)
) strict;
