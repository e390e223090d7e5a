CREATE TABLE incarnation (
  number BIGINT NOT NULL,
  id TEXT COLLATE "C" NOT NULL,
  previous TEXT COLLATE "C",
  started_at TIMESTAMP WITH TIME ZONE NOT NULL,
  person TEXT NOT NULL,
  reason TEXT NOT NULL,
  CONSTRAINT pk_incarnation PRIMARY KEY (number),
  CONSTRAINT uq_incarnation_id UNIQUE (id),
  CONSTRAINT uq_incarnation_previous UNIQUE (previous),
  CONSTRAINT fk_incarnation_previous FOREIGN KEY(previous) REFERENCES incarnation (id),
  CONSTRAINT ck_incarnation_said CHECK (number >= 1 and length(id) = 32 and person <> '' and reason <> '' and (number = 1) = (previous is null))
)
--
create trigger tr_incarnation_append_only before update or delete on incarnation for each row execute function orchestrator_refuse()
--
alter table incarnation enable always trigger tr_incarnation_append_only
--
create trigger tr_incarnation_truncate before truncate on incarnation for each statement execute function orchestrator_refuse()
--
alter table incarnation enable always trigger tr_incarnation_truncate
--
CREATE INDEX ix_payment_session ON payment (account, session_id) WHERE session_id is not null
--
insert into incarnation (number, id, previous, started_at, person, reason)
values (1, replace(cast(gen_random_uuid() as text), '-', ''), null, now(), 'database', 'first')
