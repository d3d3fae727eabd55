-- name: reply
select digest, reply from replies where owner = :owner and key = :key and created_at > :since

-- name: keep_reply
insert or replace into replies (owner, key, created_at, digest, reply) values (:owner, :key, :now, :digest, :reply)

-- name: forget_replies
delete from replies where created_at <= :since
