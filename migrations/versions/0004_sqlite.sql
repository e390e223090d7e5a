drop table checkpoint
--
drop trigger tr_log_leaf_insert
--
CREATE TABLE checkpoint (
  size INTEGER NOT NULL,
  root BLOB NOT NULL,
  nodes BLOB NOT NULL,
  note TEXT NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_checkpoint PRIMARY KEY (size),
  CONSTRAINT ck_checkpoint_signed CHECK (size > 0 and length(root) = 32 and length(nodes) / 32 * 32 = length(nodes) and note <> '')
)
--
create trigger tr_checkpoint_update before update on checkpoint begin
  select raise(abort, 'tr_checkpoint_append_only') where true;
end
--
create trigger tr_checkpoint_delete before delete on checkpoint begin
  select raise(abort, 'tr_checkpoint_append_only') where true;
end
--
create trigger tr_checkpoint_insert before insert on checkpoint begin
  select raise(abort, 'pk_checkpoint') where exists (select 1 from checkpoint where (size = new.size) or rowid = new.rowid);
  select raise(abort, 'tr_checkpoint_size') where not exists (select 1 from log_leaf where idx = new.size - 1) or exists (select 1 from log_leaf where idx = new.size);
end
--
create trigger tr_log_leaf_insert before insert on log_leaf begin
  select raise(abort, 'pk_log_leaf') where exists (select 1 from log_leaf where (idx = new.idx or (chain_id = new.chain_id and seq = new.seq)) or rowid = new.rowid);
  select raise(abort, 'tr_log_leaf_gap') where new.idx > 0 and not exists (select 1 from log_leaf where idx = new.idx - 1);
  select raise(abort, 'tr_log_leaf_entry') where not exists (select 1 from audit_entry where chain_id = new.chain_id and seq = new.seq and hash = new.hash);
end
--
create trigger tr_control_failure_update before update on control_failure begin
  select raise(abort, 'tr_control_failure_closed') where old.ended_at is not null;
  select raise(abort, 'tr_control_failure_said') where new.id is not old.id or new.control is not old.control or new.started_at is not old.started_at or new.cause is not old.cause;
  select raise(abort, 'tr_control_failure_said') where not (new.ended_at is not null and new.resumed_at is not null and coalesce(new.remediation, '') <> '' and coalesce(new.issues, '') <> '' and coalesce(new.further_action, '') <> '' and coalesce(new.prevention, '') <> '' and coalesce(new.owner, '') <> '');
end
--
create trigger tr_control_failure_delete before delete on control_failure begin
  select raise(abort, 'tr_control_failure_delete') where true;
end
--
create trigger tr_control_failure_insert before insert on control_failure begin
  select raise(abort, 'pk_control_failure') where exists (select 1 from control_failure where id = new.id);
  select raise(abort, 'tr_control_failure_opened') where new.ended_at is not null;
end
--
create trigger tr_control_failure_numbered after insert on control_failure when new.rowid < 0 begin
  select raise(abort, 'tr_control_failure_numbered');
end
--
create trigger tr_review_update before update on review begin
  select raise(abort, 'tr_review_closed') where old.closed_at is not null;
  select raise(abort, 'tr_review_said') where new.id is not old.id or new.period_from is not old.period_from or new.period_to is not old.period_to or new.reviewer is not old.reviewer or new.reviewed_at is not old.reviewed_at or new.rules_version is not old.rules_version or new.checkpoint_size is not old.checkpoint_size or new.findings is not old.findings;
  select raise(abort, 'tr_review_said') where not (new.closed_at is not null and coalesce(new.disposition, '') <> '' and coalesce(new.ticket, '') <> '' and coalesce(new.closed_by, '') <> '');
end
--
create trigger tr_review_delete before delete on review begin
  select raise(abort, 'tr_review_delete') where true;
end
--
create trigger tr_review_insert before insert on review begin
  select raise(abort, 'pk_review') where exists (select 1 from review where id = new.id);
  select raise(abort, 'tr_review_opened') where new.closed_at is not null;
end
--
create trigger tr_review_numbered after insert on review when new.rowid < 0 begin
  select raise(abort, 'tr_review_numbered');
end
--
create trigger tr_unsealed_update before update on unsealed begin
  select raise(abort, 'tr_unsealed_update') where true;
end
--
create trigger tr_unsealed_delete before delete on unsealed begin
  select raise(abort, 'tr_unsealed_delete') where not exists (select 1 from log_leaf where chain_id = old.chain_id and seq = old.seq);
end
