CREATE TABLE audit_entry (
  chain_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  "trigger" TEXT NOT NULL,
  from_state TEXT NOT NULL,
  to_state TEXT NOT NULL,
  at TEXT NOT NULL,
  actor TEXT NOT NULL,
  origin TEXT NOT NULL,
  kind TEXT NOT NULL,
  result TEXT NOT NULL,
  about TEXT NOT NULL,
  prev_hash BLOB NOT NULL,
  hash BLOB NOT NULL,
  body TEXT NOT NULL,
  prev_seq INTEGER GENERATED ALWAYS AS (nullif(seq - 1, 0)) STORED,
  prev_fk BLOB GENERATED ALWAYS AS (case when seq > 1 then prev_hash end) STORED,
  CONSTRAINT pk_audit_entry PRIMARY KEY (chain_id, seq),
  CONSTRAINT uq_audit_entry_head UNIQUE (chain_id, seq, to_state, hash),
  CONSTRAINT fk_audit_entry_extends FOREIGN KEY(chain_id, prev_seq, from_state, prev_fk) REFERENCES audit_entry (chain_id, seq, to_state, hash),
  CONSTRAINT ck_audit_entry_edge CHECK ((substr(chain_id, 1, 4) = 'pay-' and (trigger || ' ' || from_state || ' ' || to_state) in ('submit - collecting', 'collect collecting collecting', 'authorize collecting authorized', 'request authorized authorized', 'retry collecting collecting', 'retry authorized authorized', 'supersede authorized authorized', 'start_session authorized session_started', 'hand_over session_started awaiting_payment', 'acknowledge awaiting_payment awaiting_payment', 'observe authorized authorized', 'observe session_started session_started', 'observe awaiting_payment awaiting_payment', 'cancel authorized authorized', 'cancel session_started session_started', 'cancel awaiting_payment awaiting_payment', 'complete awaiting_payment completed', 'fail collecting failed', 'fail authorized failed', 'fail session_started failed', 'fail awaiting_payment failed', 'hold collecting collecting', 'hold authorized authorized', 'hold session_started session_started', 'hold awaiting_payment awaiting_payment', 'hold completed completed', 'hold failed failed', 'release collecting collecting', 'release authorized authorized', 'release session_started session_started', 'release awaiting_payment awaiting_payment', 'release completed completed', 'release failed failed', 'late_result completed completed', 'late_result failed failed')) or (not substr(chain_id, 1, 4) = 'pay-' and (trigger || ' ' || from_state || ' ' || to_state) in ('worker_started - running', 'worker_stopped running stopped', 'worker_lapsed running stopped', 'note - open', 'note open open'))),
  CONSTRAINT ck_audit_entry_first CHECK (seq >= 1 and (seq = 1) = (from_state = '-')),
  CONSTRAINT ck_audit_entry_answers CHECK (result in ('success', 'failure', 'unknown') and actor <> '' and origin <> '' and kind <> '' and about <> '' and chain_id <> ''),
  CONSTRAINT ck_audit_entry_shape CHECK (typeof(seq) = 'integer' and typeof(body) = 'text' and typeof(hash) = 'blob' and length(hash) = 32 and typeof(prev_hash) = 'blob' and length(prev_hash) = 32 and at glob '????-??-??T??:??:??.??????Z' and (seq > 1 or prev_hash = zeroblob(32))),
  CONSTRAINT ck_audit_entry_says CHECK (json_extract(body, '$.chain') is chain_id and json_extract(body, '$.trigger') is trigger and json_extract(body, '$.from') is from_state and json_extract(body, '$.to') is to_state and json_extract(body, '$.actor') is actor and json_extract(body, '$.origin') is origin and json_extract(body, '$.kind') is kind and json_extract(body, '$.result') is result and json_extract(body, '$.about') is about and json_extract(body, '$.seq') is seq and json_extract(body, '$.at') is at and json_extract(body, '$.prev') is lower(hex(prev_hash)))
)
--
CREATE INDEX ix_audit_entry_chain ON audit_entry (chain_id) WHERE seq = 1
--
CREATE TABLE checkpoint (
  size INTEGER NOT NULL,
  root BLOB NOT NULL,
  note TEXT NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_checkpoint PRIMARY KEY (size),
  CONSTRAINT ck_checkpoint_signed CHECK (size >= 0 and length(root) = 32 and note <> '')
)
--
CREATE TABLE control_failure (
  id INTEGER NOT NULL,
  control TEXT NOT NULL,
  started_at TEXT NOT NULL,
  ended_at TEXT,
  cause TEXT NOT NULL,
  remediation TEXT,
  issues TEXT,
  further_action TEXT,
  prevention TEXT,
  resumed_at TEXT,
  owner TEXT,
  CONSTRAINT pk_control_failure PRIMARY KEY (id),
  CONSTRAINT ck_control_failure_span CHECK (control <> '' and (ended_at is null or ended_at >= started_at))
)
--
CREATE TABLE definition (
  digest TEXT NOT NULL,
  name TEXT NOT NULL,
  text TEXT NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_definition PRIMARY KEY (digest)
)
--
CREATE TABLE review (
  id INTEGER NOT NULL,
  period_from TEXT NOT NULL,
  period_to TEXT NOT NULL,
  reviewer TEXT NOT NULL,
  reviewed_at TEXT NOT NULL,
  rules_version TEXT NOT NULL,
  checkpoint_size BIGINT,
  findings TEXT NOT NULL,
  disposition TEXT,
  ticket TEXT,
  closed_by TEXT,
  closed_at TEXT,
  CONSTRAINT pk_review PRIMARY KEY (id),
  CONSTRAINT ck_review_period CHECK (reviewer <> '' and period_to > period_from)
)
--
CREATE TABLE worker (
  id TEXT NOT NULL,
  origin TEXT NOT NULL,
  version TEXT NOT NULL,
  started_at TEXT NOT NULL,
  beat_at TEXT NOT NULL,
  CONSTRAINT pk_worker PRIMARY KEY (id)
)
--
CREATE TABLE log_leaf (
  idx INTEGER NOT NULL,
  chain_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  hash BLOB NOT NULL,
  CONSTRAINT pk_log_leaf PRIMARY KEY (idx),
  CONSTRAINT uq_log_leaf_chain_id_seq UNIQUE (chain_id, seq),
  CONSTRAINT fk_log_leaf_chain_id_seq FOREIGN KEY(chain_id, seq) REFERENCES audit_entry (chain_id, seq),
  CONSTRAINT ck_log_leaf_idx CHECK (idx >= 0)
)
--
CREATE TABLE notification (
  id INTEGER NOT NULL,
  payment_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  event TEXT NOT NULL,
  created_at TEXT NOT NULL,
  due_at TEXT NOT NULL,
  expires_at TEXT,
  taken_by TEXT,
  begun_at TEXT,
  tries INTEGER NOT NULL,
  done_at TEXT,
  CONSTRAINT pk_notification PRIMARY KEY (id),
  CONSTRAINT uq_notification_payment_id_seq_event UNIQUE (payment_id, seq, event),
  CONSTRAINT fk_notification_payment_id_seq FOREIGN KEY(payment_id, seq) REFERENCES audit_entry (chain_id, seq),
  CONSTRAINT ck_notification_event CHECK (event <> '' and tries >= 0)
)
--
CREATE INDEX ix_notification_due ON notification (due_at) WHERE done_at is null
--
CREATE INDEX ix_notification_expires ON notification (expires_at) WHERE done_at is null and expires_at is not null
--
CREATE TABLE payment (
  id TEXT NOT NULL,
  account TEXT NOT NULL,
  channel TEXT NOT NULL,
  reference TEXT NOT NULL,
  round INTEGER NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  created_at TEXT NOT NULL,
  machine_version INTEGER NOT NULL,
  content_digest TEXT NOT NULL,
  definitions TEXT NOT NULL,
  call_guid TEXT,
  state TEXT NOT NULL,
  version INTEGER NOT NULL,
  head_hash BLOB NOT NULL,
  missing TEXT NOT NULL,
  due_at TEXT,
  deadline_at TEXT,
  troubled_since TEXT,
  paused_s INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  open_attempt INTEGER,
  failures INTEGER NOT NULL,
  sessions INTEGER NOT NULL,
  session_id TEXT,
  session_at TEXT,
  number TEXT,
  link_id TEXT,
  unseen_until TEXT,
  hand_over_until TEXT,
  acknowledged_at TEXT,
  undelivered BOOLEAN NOT NULL,
  overdue BOOLEAN NOT NULL,
  cancel_requested BOOLEAN NOT NULL,
  hold TEXT,
  held_at TEXT,
  money TEXT NOT NULL,
  outcome TEXT,
  reason TEXT NOT NULL,
  session_state TEXT,
  codes TEXT NOT NULL,
  watch_until TEXT,
  claimed_by TEXT,
  claim_no BIGINT NOT NULL,
  progress_claim BIGINT NOT NULL,
  CONSTRAINT pk_payment PRIMARY KEY (id),
  CONSTRAINT uq_payment_account_reference_round UNIQUE (account, reference, round),
  CONSTRAINT fk_payment_head FOREIGN KEY(id, version, state, head_hash) REFERENCES audit_entry (chain_id, seq, to_state, hash) DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT ck_payment_state CHECK (state in ('collecting', 'authorized', 'session_started', 'awaiting_payment', 'completed', 'failed')),
  CONSTRAINT ck_payment_channel CHECK (channel in ('phone', 'digital')),
  CONSTRAINT ck_payment_money CHECK (money in ('none', 'taken', 'partial', 'unknown')),
  CONSTRAINT ck_payment_outcome CHECK (outcome is null or outcome in ('paid', 'partially_paid', 'declined', 'review', 'attempts_exhausted', 'input_timeout', 'cancelled_by_payer', 'cancelled_by_host', 'hung_up', 'expired', 'not_attempted', 'abandoned', 'link_undeliverable', 'provider_unavailable', 'provider_error', 'config_error', 'invalid_request', 'indeterminate')),
  CONSTRAINT ck_payment_hold CHECK (hold is null or hold in ('session_unknown', 'unseen_session', 'number_not_allowed', 'answer_mismatch', 'partially_paid', 'review', 'indeterminate', 'late_money', 'poison')),
  CONSTRAINT ck_payment_held_since CHECK ((hold is null) = (held_at is null)),
  CONSTRAINT ck_payment_amount CHECK (amount_minor > 0 and length(currency) = 3),
  CONSTRAINT ck_payment_counts CHECK (version >= 1 and round >= 1 and claim_no >= 0 and attempts >= 0),
  CONSTRAINT ck_payment_end CHECK ((state <> 'completed' or coalesce(outcome, '') = 'paid') and (state <> 'failed' or outcome is not null))
)
--
CREATE INDEX ix_payment_call ON payment (call_guid) WHERE call_guid is not null
--
CREATE INDEX ix_payment_claimed ON payment (claimed_by) WHERE claimed_by is not null
--
CREATE INDEX ix_payment_due ON payment (due_at) WHERE due_at is not null and claimed_by is null
--
CREATE INDEX ix_payment_held ON payment (created_at, id) WHERE hold is not null
--
CREATE INDEX ix_payment_list ON payment (created_at, id)
--
CREATE INDEX ix_payment_unended ON payment (id) WHERE state not in ('completed', 'failed') and hold is null
--
CREATE UNIQUE INDEX uq_payment_live_call ON payment (account, call_guid) WHERE (channel = 'phone' and call_guid is not null and state not in ('completed', 'failed'))
--
CREATE UNIQUE INDEX uq_payment_live_reference ON payment (account, reference) WHERE (state not in ('completed', 'failed'))
--
CREATE TABLE unsealed (
  chain_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  CONSTRAINT pk_unsealed PRIMARY KEY (chain_id, seq),
  CONSTRAINT fk_unsealed_chain_id_seq FOREIGN KEY(chain_id, seq) REFERENCES audit_entry (chain_id, seq)
)
--
CREATE TABLE payer_data (
  payment_id TEXT NOT NULL,
  sealed BLOB NOT NULL,
  updated_at TEXT NOT NULL,
  CONSTRAINT pk_payer_data PRIMARY KEY (payment_id),
  CONSTRAINT fk_payer_data_payment_id FOREIGN KEY(payment_id) REFERENCES payment (id)
)
--
create trigger tr_audit_entry_update before update on audit_entry begin
  select raise(abort, 'tr_audit_entry_append_only') where true;
end
--
create trigger tr_audit_entry_delete before delete on audit_entry begin
  select raise(abort, 'tr_audit_entry_append_only') where true;
end
--
create trigger tr_audit_entry_insert before insert on audit_entry begin
  select raise(abort, 'pk_audit_entry') where exists (select 1 from audit_entry where (chain_id = new.chain_id and seq = new.seq) or rowid = new.rowid);
  select raise(abort, 'ck_audit_entry_edge') where not ((substr(new.chain_id, 1, 4) = 'pay-' and (new.trigger || ' ' || new.from_state || ' ' || new.to_state) in ('submit - collecting', 'collect collecting collecting', 'authorize collecting authorized', 'request authorized authorized', 'retry collecting collecting', 'retry authorized authorized', 'supersede authorized authorized', 'start_session authorized session_started', 'hand_over session_started awaiting_payment', 'acknowledge awaiting_payment awaiting_payment', 'observe authorized authorized', 'observe session_started session_started', 'observe awaiting_payment awaiting_payment', 'cancel authorized authorized', 'cancel session_started session_started', 'cancel awaiting_payment awaiting_payment', 'complete awaiting_payment completed', 'fail collecting failed', 'fail authorized failed', 'fail session_started failed', 'fail awaiting_payment failed', 'hold collecting collecting', 'hold authorized authorized', 'hold session_started session_started', 'hold awaiting_payment awaiting_payment', 'hold completed completed', 'hold failed failed', 'release collecting collecting', 'release authorized authorized', 'release session_started session_started', 'release awaiting_payment awaiting_payment', 'release completed completed', 'release failed failed', 'late_result completed completed', 'late_result failed failed')) or (not substr(new.chain_id, 1, 4) = 'pay-' and (new.trigger || ' ' || new.from_state || ' ' || new.to_state) in ('worker_started - running', 'worker_stopped running stopped', 'worker_lapsed running stopped', 'note - open', 'note open open')));
  select raise(abort, 'ck_audit_entry_first') where not (new.seq >= 1 and (new.seq = 1) = (new.from_state = '-'));
  select raise(abort, 'ck_audit_entry_answers') where not (new.result in ('success', 'failure', 'unknown') and new.actor <> '' and new.origin <> '' and new.kind <> '' and new.about <> '' and new.chain_id <> '');
  select raise(abort, 'ck_audit_entry_shape') where not (typeof(new.seq) = 'integer' and typeof(new.body) = 'text' and typeof(new.hash) = 'blob' and length(new.hash) = 32 and typeof(new.prev_hash) = 'blob' and length(new.prev_hash) = 32 and new.at glob '????-??-??T??:??:??.??????Z' and (new.seq > 1 or new.prev_hash = zeroblob(32)));
  select raise(abort, 'ck_audit_entry_says') where not (json_extract(new.body, '$.chain') is new.chain_id and json_extract(new.body, '$.trigger') is new.trigger and json_extract(new.body, '$.from') is new.from_state and json_extract(new.body, '$.to') is new.to_state and json_extract(new.body, '$.actor') is new.actor and json_extract(new.body, '$.origin') is new.origin and json_extract(new.body, '$.kind') is new.kind and json_extract(new.body, '$.result') is new.result and json_extract(new.body, '$.about') is new.about and json_extract(new.body, '$.seq') is new.seq and json_extract(new.body, '$.at') is new.at and json_extract(new.body, '$.prev') is lower(hex(new.prev_hash)));
  select raise(abort, 'fk_audit_entry_extends') where new.seq > 1 and not exists (select 1 from audit_entry where chain_id = new.chain_id and seq = new.seq - 1 and to_state = new.from_state and hash = new.prev_hash);
  select raise(abort, 'tr_audit_entry_payment') where new.seq > 1 and substr(new.chain_id, 1, 4) = 'pay-' and not exists (select 1 from payment where id = new.chain_id);
end
--
create trigger tr_audit_entry_numbered after insert on audit_entry when new.rowid < 0 begin
  select raise(abort, 'tr_audit_entry_numbered');
end
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
end
--
create trigger tr_log_leaf_update before update on log_leaf begin
  select raise(abort, 'tr_log_leaf_append_only') where true;
end
--
create trigger tr_log_leaf_delete before delete on log_leaf begin
  select raise(abort, 'tr_log_leaf_append_only') where true;
end
--
create trigger tr_log_leaf_insert before insert on log_leaf begin
  select raise(abort, 'pk_log_leaf') where exists (select 1 from log_leaf where (idx = new.idx or (chain_id = new.chain_id and seq = new.seq)) or rowid = new.rowid);
end
--
create trigger tr_definition_update before update on definition begin
  select raise(abort, 'tr_definition_append_only') where true;
end
--
create trigger tr_definition_delete before delete on definition begin
  select raise(abort, 'tr_definition_append_only') where true;
end
--
create trigger tr_definition_insert before insert on definition begin
  select raise(ignore) where exists (select 1 from definition where digest = new.digest and text = new.text);
  select raise(abort, 'pk_definition') where exists (select 1 from definition where (digest = new.digest and text <> new.text) or rowid = new.rowid);
end
--
create trigger tr_definition_numbered after insert on definition when new.rowid < 0 begin
  select raise(abort, 'tr_definition_numbered');
end
--
create trigger tr_payment_insert before insert on payment begin
  select raise(abort, 'pk_payment') where exists (select 1 from payment where id = new.id or rowid = new.rowid);
  select raise(abort, 'ck_payment_state') where not (new.state in ('collecting', 'authorized', 'session_started', 'awaiting_payment', 'completed', 'failed'));
  select raise(abort, 'ck_payment_channel') where not (new.channel in ('phone', 'digital'));
  select raise(abort, 'ck_payment_money') where not (new.money in ('none', 'taken', 'partial', 'unknown'));
  select raise(abort, 'ck_payment_outcome') where not (new.outcome is null or new.outcome in ('paid', 'partially_paid', 'declined', 'review', 'attempts_exhausted', 'input_timeout', 'cancelled_by_payer', 'cancelled_by_host', 'hung_up', 'expired', 'not_attempted', 'abandoned', 'link_undeliverable', 'provider_unavailable', 'provider_error', 'config_error', 'invalid_request', 'indeterminate'));
  select raise(abort, 'ck_payment_hold') where not (new.hold is null or new.hold in ('session_unknown', 'unseen_session', 'number_not_allowed', 'answer_mismatch', 'partially_paid', 'review', 'indeterminate', 'late_money', 'poison'));
  select raise(abort, 'ck_payment_held_since') where not ((new.hold is null) = (new.held_at is null));
  select raise(abort, 'ck_payment_amount') where not (new.amount_minor > 0 and length(new.currency) = 3);
  select raise(abort, 'ck_payment_counts') where not (new.version >= 1 and new.round >= 1 and new.claim_no >= 0 and new.attempts >= 0);
  select raise(abort, 'ck_payment_end') where not ((new.state <> 'completed' or coalesce(new.outcome, '') = 'paid') and (new.state <> 'failed' or new.outcome is not null));
  select raise(abort, 'tr_payment_birth') where new.state is not 'collecting' or new.version is not 1;
  select raise(abort, 'fk_payment_head') where not exists (select 1 from audit_entry where chain_id = new.id and seq = new.version and to_state = new.state and hash = new.head_hash);
  select raise(abort, 'uq_payment_account_reference_round') where exists (select 1 from payment where account = new.account and reference = new.reference and round = new.round);
  select raise(abort, 'uq_payment_live_reference') where (new.state not in ('completed', 'failed') or new.hold is not null or new.watch_until is not null) and exists (select 1 from payment where account = new.account and reference = new.reference and id <> new.id and (state not in ('completed', 'failed') or hold is not null or watch_until is not null));
  select raise(abort, 'uq_payment_live_call') where (new.channel = 'phone' and new.call_guid is not null and new.state not in ('completed', 'failed')) and exists (select 1 from payment where account = new.account and call_guid = new.call_guid and id <> new.id and (channel = 'phone' and call_guid is not null and state not in ('completed', 'failed')));
end
--
create trigger tr_payment_numbered after insert on payment when new.rowid < 0 begin
  select raise(abort, 'tr_payment_numbered');
end
--
create trigger tr_payment_delete before delete on payment begin
  select raise(abort, 'tr_payment_delete') where true;
end
--
create trigger tr_payment_update before update on payment begin
  select raise(abort, 'tr_payment_identity') where new.id is not old.id or new.account is not old.account or new.channel is not old.channel or new.reference is not old.reference or new.round is not old.round or new.amount_minor is not old.amount_minor or new.currency is not old.currency or new.created_at is not old.created_at or new.machine_version is not old.machine_version or new.content_digest is not old.content_digest or new.definitions is not old.definitions;
  select raise(abort, 'tr_payment_identity') where new.rowid <> old.rowid;
end
--
create trigger tr_payment_facts before update on payment when new.version is old.version begin
  select raise(abort, 'tr_payment_facts') where new.call_guid is not old.call_guid or new.missing is not old.missing or new.deadline_at is not old.deadline_at or new.troubled_since is not old.troubled_since or new.paused_s is not old.paused_s or new.attempts is not old.attempts or new.open_attempt is not old.open_attempt or new.failures is not old.failures or new.sessions is not old.sessions or new.session_id is not old.session_id or new.session_at is not old.session_at or new.number is not old.number or new.link_id is not old.link_id or new.unseen_until is not old.unseen_until or new.hand_over_until is not old.hand_over_until or new.acknowledged_at is not old.acknowledged_at or new.undelivered is not old.undelivered or new.overdue is not old.overdue or new.cancel_requested is not old.cancel_requested or new.hold is not old.hold or new.held_at is not old.held_at or new.money is not old.money or new.outcome is not old.outcome or new.reason is not old.reason or new.session_state is not old.session_state or new.codes is not old.codes or new.watch_until is not old.watch_until;
end
--
create trigger tr_payment_move before update on payment when new.id is not old.id or new.version is not old.version or new.state is not old.state or new.head_hash is not old.head_hash begin
  select raise(abort, 'tr_payment_back') where new.version is null or new.version <= old.version;
  select raise(abort, 'tr_payment_ended') where old.state in ('completed', 'failed') and new.state is not old.state;
  select raise(abort, 'fk_payment_head') where not exists (select 1 from audit_entry where chain_id = new.id and seq = new.version and to_state = new.state and hash = new.head_hash);
  select raise(abort, 'ck_payment_state') where not (new.state in ('collecting', 'authorized', 'session_started', 'awaiting_payment', 'completed', 'failed'));
  select raise(abort, 'ck_payment_channel') where not (new.channel in ('phone', 'digital'));
  select raise(abort, 'ck_payment_money') where not (new.money in ('none', 'taken', 'partial', 'unknown'));
  select raise(abort, 'ck_payment_outcome') where not (new.outcome is null or new.outcome in ('paid', 'partially_paid', 'declined', 'review', 'attempts_exhausted', 'input_timeout', 'cancelled_by_payer', 'cancelled_by_host', 'hung_up', 'expired', 'not_attempted', 'abandoned', 'link_undeliverable', 'provider_unavailable', 'provider_error', 'config_error', 'invalid_request', 'indeterminate'));
  select raise(abort, 'ck_payment_hold') where not (new.hold is null or new.hold in ('session_unknown', 'unseen_session', 'number_not_allowed', 'answer_mismatch', 'partially_paid', 'review', 'indeterminate', 'late_money', 'poison'));
  select raise(abort, 'ck_payment_held_since') where not ((new.hold is null) = (new.held_at is null));
  select raise(abort, 'ck_payment_amount') where not (new.amount_minor > 0 and length(new.currency) = 3);
  select raise(abort, 'ck_payment_counts') where not (new.version >= 1 and new.round >= 1 and new.claim_no >= 0 and new.attempts >= 0);
  select raise(abort, 'ck_payment_end') where not ((new.state <> 'completed' or coalesce(new.outcome, '') = 'paid') and (new.state <> 'failed' or new.outcome is not null));
  select raise(abort, 'uq_payment_live_call') where (new.channel = 'phone' and new.call_guid is not null and new.state not in ('completed', 'failed')) and exists (select 1 from payment where account = new.account and call_guid = new.call_guid and id <> new.id and (channel = 'phone' and call_guid is not null and state not in ('completed', 'failed')));
end
--
create view v_payment as select id, account, channel, reference, round, amount_minor, currency, state, outcome, reason, money, hold, held_at, overdue, cancel_requested, created_at, due_at, deadline_at, watch_until, call_guid, session_id, session_state, session_at, attempts, open_attempt, sessions, acknowledged_at, unseen_until, version, claimed_by, claim_no, machine_version, codes from payment
--
create view v_timeline as select chain_id as payment_id, seq, at, actor, origin, kind, trigger, from_state, to_state, result, json_extract(body, '$.operation') as operation, json_extract(body, '$.verdict') as verdict, json_extract(body, '$.cause') as cause, json_extract(body, '$.why') as why, json_extract(body, '$.message') as message, json_extract(body, '$.method') as method, json_extract(body, '$.url') as url, json_extract(body, '$.trace') as trace, json_extract(body, '$.software') as software, json_extract(body, '$.attempt') as attempt, json_extract(body, '$.status') as status, json_extract(body, '$.sends') as sends, json_extract(body, '$.duration_ms') as duration_ms, json_extract(body, '$.facts.reason') as reason, json_extract(body, '$.looks.count') as looks, lower(hex(hash)) as hash from audit_entry where substr(chain_id, 1, 4) = 'pay-'
