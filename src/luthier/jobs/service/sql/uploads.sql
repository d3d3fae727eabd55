-- name: add_upload
insert into uploads (
    id, owner, created_at, bytes, filename, purpose, mime_type, status, expires_at, file_expires_after
)
values (
    :id, :owner, :created_at, :bytes, :filename, :purpose, :mime_type, 'pending', :expires_at, :file_expires_after
)

-- name: upload
select * from uploads where id = :id and owner = :owner

-- name: upload_life
select file_expires_after from uploads where id = :id

-- name: end_upload
update uploads set status = :status, file_id = :file_id
where id = :id
returning *

-- name: expire_uploads
update uploads set status = 'expired' where status = 'pending' and expires_at <= :now returning id

-- name: pending_uploads
select id from uploads where status = 'pending'

-- name: add_part
insert into parts (id, upload_id, created_at, bytes)
select :id, :upload_id, :created_at, :bytes
where :bytes + coalesce((select sum(bytes) from parts where upload_id = :upload_id), 0)
    <= (select bytes from uploads where id = :upload_id and status = 'pending' and expires_at > :created_at)
returning *

-- name: parts
select * from parts where upload_id = :upload_id

-- name: delete_parts
delete from parts where upload_id = :upload_id
