CREATE TABLE account_pause (
  account TEXT NOT NULL,
  paused_at TEXT NOT NULL,
  person TEXT NOT NULL,
  reason TEXT NOT NULL,
  CONSTRAINT pk_account_pause PRIMARY KEY (account),
  CONSTRAINT ck_account_pause_said CHECK (account <> '' and person <> '' and reason <> '')
)
--
CREATE TABLE schema_record (
  id INTEGER NOT NULL,
  revision TEXT NOT NULL,
  digest TEXT NOT NULL,
  recorded_at TEXT NOT NULL,
  CONSTRAINT pk_schema_record PRIMARY KEY (id),
  CONSTRAINT ck_schema_record_said CHECK (id > 0 and revision <> '' and length(digest) = 64)
)
--
create trigger tr_schema_record_update before update on schema_record begin
  select raise(abort, 'tr_schema_record_append_only') where true;
end
--
create trigger tr_schema_record_delete before delete on schema_record begin
  select raise(abort, 'tr_schema_record_append_only') where true;
end
--
create trigger tr_schema_record_insert before insert on schema_record begin
  select raise(abort, 'pk_schema_record') where exists (select 1 from schema_record where (id = new.id) or rowid = new.rowid);
end
--
create trigger tr_schema_record_numbered after insert on schema_record when new.rowid < 0 begin
  select raise(abort, 'tr_schema_record_numbered');
end
