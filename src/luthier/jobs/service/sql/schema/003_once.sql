-- Replies to requests with an Idempotency-Key; `digest` is of what was asked, so that a key means one request only.

create table replies (
    owner text not null,
    key text not null,
    created_at integer not null,
    digest text not null,
    reply text not null,
    primary key (owner, key)
) strict, without rowid;
create index replies_by_age on replies (created_at);
