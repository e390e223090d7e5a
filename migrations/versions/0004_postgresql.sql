drop table checkpoint
--
CREATE TABLE checkpoint (
  size BIGINT NOT NULL,
  root BYTEA NOT NULL,
  nodes BYTEA NOT NULL,
  note TEXT NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_checkpoint PRIMARY KEY (size),
  CONSTRAINT ck_checkpoint_signed CHECK (size > 0 and length(root) = 32 and length(nodes) / 32 * 32 = length(nodes) and note <> '')
)
--
create function orchestrator_leaf() returns trigger language plpgsql set search_path from current as $$
begin
  if new.idx > 0 and not exists (select 1 from log_leaf where idx = new.idx - 1) then
    raise exception using errcode = '23514', constraint = 'tr_log_leaf_gap', message = 'refused (tr_log_leaf_gap)';
  end if;
  if not exists (select 1 from audit_entry
    where chain_id = new.chain_id and seq = new.seq and hash = new.hash) then
    raise exception using errcode = '23514', constraint = 'tr_log_leaf_entry', message = 'refused (tr_log_leaf_entry)';
  end if;
  return new;
end $$
--
create function orchestrator_checkpoint() returns trigger language plpgsql set search_path from current as $$
begin
  if not exists (select 1 from log_leaf where idx = new.size - 1)
    or exists (select 1 from log_leaf where idx = new.size) then
    raise exception using errcode = '23514', constraint = 'tr_checkpoint_size', message = 'refused (tr_checkpoint_size)';
  end if;
  return new;
end $$
--
create function orchestrator_unsealed() returns trigger language plpgsql set search_path from current as $$
begin
  if tg_op = 'UPDATE' then
    raise exception using errcode = '23514', constraint = 'tr_unsealed_update', message = 'refused (tr_unsealed_update)';
  end if;
  if not exists (select 1 from log_leaf where chain_id = old.chain_id and seq = old.seq) then
    raise exception using errcode = '23514', constraint = 'tr_unsealed_delete', message = 'refused (tr_unsealed_delete)';
  end if;
  return old;
end $$
--
create function orchestrator_control_failure() returns trigger language plpgsql set search_path from current as $$
begin
  if tg_op = 'INSERT' then
    if new.ended_at is not null then
      raise exception using errcode = '23514', constraint = 'tr_control_failure_opened', message = 'refused (tr_control_failure_opened)';
    end if;
    return new;
  end if;
  if old.ended_at is not null then
    raise exception using errcode = '23514', constraint = 'tr_control_failure_closed', message = 'refused (tr_control_failure_closed)';
  end if;
  if (new.id, new.control, new.started_at, new.cause) is distinct from (old.id, old.control, old.started_at, old.cause) or not (new.ended_at is not null and new.resumed_at is not null and coalesce(new.remediation, '') <> '' and coalesce(new.issues, '') <> '' and coalesce(new.further_action, '') <> '' and coalesce(new.prevention, '') <> '' and coalesce(new.owner, '') <> '') then
    raise exception using errcode = '23514', constraint = 'tr_control_failure_said', message = 'refused (tr_control_failure_said)';
  end if;
  return new;
end $$
--
create function orchestrator_review() returns trigger language plpgsql set search_path from current as $$
begin
  if tg_op = 'INSERT' then
    if new.closed_at is not null then
      raise exception using errcode = '23514', constraint = 'tr_review_opened', message = 'refused (tr_review_opened)';
    end if;
    return new;
  end if;
  if old.closed_at is not null then
    raise exception using errcode = '23514', constraint = 'tr_review_closed', message = 'refused (tr_review_closed)';
  end if;
  if (new.id, new.period_from, new.period_to, new.reviewer, new.reviewed_at, new.rules_version, new.checkpoint_size, new.findings) is distinct from (old.id, old.period_from, old.period_to, old.reviewer, old.reviewed_at, old.rules_version, old.checkpoint_size, old.findings) or not (new.closed_at is not null and coalesce(new.disposition, '') <> '' and coalesce(new.ticket, '') <> '' and coalesce(new.closed_by, '') <> '') then
    raise exception using errcode = '23514', constraint = 'tr_review_said', message = 'refused (tr_review_said)';
  end if;
  return new;
end $$
--
create trigger tr_checkpoint_append_only before update or delete on checkpoint for each row execute function orchestrator_refuse()
--
alter table checkpoint enable always trigger tr_checkpoint_append_only
--
create trigger tr_checkpoint_truncate before truncate on checkpoint for each statement execute function orchestrator_refuse()
--
alter table checkpoint enable always trigger tr_checkpoint_truncate
--
create trigger tr_control_failure_append_only before delete on control_failure for each row execute function orchestrator_refuse()
--
alter table control_failure enable always trigger tr_control_failure_append_only
--
create trigger tr_control_failure_truncate before truncate on control_failure for each statement execute function orchestrator_refuse()
--
alter table control_failure enable always trigger tr_control_failure_truncate
--
create trigger tr_review_append_only before delete on review for each row execute function orchestrator_refuse()
--
alter table review enable always trigger tr_review_append_only
--
create trigger tr_review_truncate before truncate on review for each statement execute function orchestrator_refuse()
--
alter table review enable always trigger tr_review_truncate
--
create trigger tr_log_leaf_guard before insert on log_leaf for each row execute function orchestrator_leaf()
--
alter table log_leaf enable always trigger tr_log_leaf_guard
--
create trigger tr_checkpoint_guard before insert on checkpoint for each row execute function orchestrator_checkpoint()
--
alter table checkpoint enable always trigger tr_checkpoint_guard
--
create trigger tr_unsealed_guard before update or delete on unsealed for each row execute function orchestrator_unsealed()
--
alter table unsealed enable always trigger tr_unsealed_guard
--
create trigger tr_control_failure_guard before insert or update on control_failure for each row execute function orchestrator_control_failure()
--
alter table control_failure enable always trigger tr_control_failure_guard
--
create trigger tr_review_guard before insert or update on review for each row execute function orchestrator_review()
--
alter table review enable always trigger tr_review_guard
--
create trigger tr_unsealed_truncate before truncate on unsealed for each statement execute function orchestrator_refuse()
--
alter table unsealed enable always trigger tr_unsealed_truncate
