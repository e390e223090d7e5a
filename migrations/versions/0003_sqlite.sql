CREATE TABLE incarnation (
  number INTEGER NOT NULL,
  id TEXT NOT NULL,
  previous TEXT,
  started_at TEXT NOT NULL,
  person TEXT NOT NULL,
  reason TEXT NOT NULL,
  CONSTRAINT pk_incarnation PRIMARY KEY (number),
  CONSTRAINT uq_incarnation_id UNIQUE (id),
  CONSTRAINT uq_incarnation_previous UNIQUE (previous),
  CONSTRAINT fk_incarnation_previous FOREIGN KEY(previous) REFERENCES incarnation (id),
  CONSTRAINT ck_incarnation_said CHECK (number >= 1 and length(id) = 32 and person <> '' and reason <> '' and (number = 1) = (previous is null))
)
--
create trigger tr_incarnation_update before update on incarnation begin
  select raise(abort, 'tr_incarnation_append_only') where true;
end
--
create trigger tr_incarnation_delete before delete on incarnation begin
  select raise(abort, 'tr_incarnation_append_only') where true;
end
--
create trigger tr_incarnation_insert before insert on incarnation begin
  select raise(abort, 'pk_incarnation') where exists (select 1 from incarnation where (number = new.number or id = new.id) or rowid = new.rowid);
  select raise(abort, 'ck_incarnation_said') where not (new.number >= 1 and length(new.id) = 32 and new.person <> '' and new.reason <> '');
  select raise(abort, 'fk_incarnation_previous') where (new.number > 1 or new.previous is not null) and not exists (select 1 from incarnation where id = new.previous and number = new.number - 1);
end
--
CREATE INDEX ix_payment_session ON payment (account, session_id) WHERE session_id is not null
--
insert into incarnation (number, id, previous, started_at, person, reason)
values (1, lower(hex(randomblob(16))), null, strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z', 'database', 'first')
