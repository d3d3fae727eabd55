-- name: add_file
insert into files (id, owner, created_at, bytes, filename, purpose, status, expires_at)
values (:id, :owner, :created_at, :bytes, :filename, :purpose, 'processed', :expires_at)
on conflict (id) do nothing

-- name: file
select * from files where id = :id and owner = :owner and (expires_at is null or expires_at > :now)

-- name: files_down
select * from files
where owner = :owner and (:purpose is null or purpose = :purpose) and (expires_at is null or expires_at > :now)
    and (:after is null or seq < (select seq from files where id = :after))
order by seq desc limit :limit

-- name: files_up
select * from files
where owner = :owner and (:purpose is null or purpose = :purpose) and (expires_at is null or expires_at > :now)
    and (:after is null or seq > (select seq from files where id = :after))
order by seq limit :limit

-- name: delete_file
delete from files where id = :id and owner = :owner returning id

-- name: delete_expired_files
delete from files where expires_at <= :now returning id

-- name: file_ids
select id from files
