use std::borrow::Cow;
use std::time::Instant;

use mqtt_codec::{ConnAck, Connect, ConnectReturnCode, DecodeError, Text, TopicNameBuf};

use super::open::Open;
use super::{Candidate, Connection, Event, Stage};
use crate::Client;
use crate::hooks::{Admission, Authentication, Login};
use crate::journal::Recorder;
use crate::session::Will;
use crate::sync::Arc;
use crate::{Closed, ConnectionError, Message, Worker};

impl Connection {
    pub(super) fn handle_connect(
        &mut self,
        worker: &mut Worker,
        connect: &Connect<'_>,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let Stage::Connecting(arrival) = &mut self.stage else { return Ok(()) };
        let shared = self.broker.shared();
        let config = &shared.config;
        let given_id = connect.client_id().as_bytes().is_empty();
        let too_long = connect.keep_alive() > config.max_keep_alive
            || connect.keep_alive() == 0 && config.max_keep_alive < u16::MAX;
        if too_long || given_id && !config.allow_empty_client_id {
            return Err(self.refuse(ConnectReturnCode::IdentifierRejected, worker));
        }
        let deadline = arrival.deadline;
        let peer = std::mem::take(&mut arrival.peer);
        let will = match connect.will() {
            Some(will) => {
                let topic = match &peer.mount_point {
                    None => Some(TopicNameBuf::from(will.topic)),
                    Some(mount) => mount.topic(will.topic),
                };
                let topic = topic.filter(|topic| shared.topic_fits(topic.as_topic_name()));
                let topic = topic.ok_or(ConnectionError::TopicTooLong)?;
                Message::new(topic.as_topic_name(), will.message, will.qos)
                    .ok()
                    .map(|message| if will.retain { message.retained() } else { message })
            }
            None => None,
        };
        let client_id = match given_id {
            true => Cow::Owned(shared.give_client_id()),
            false => Cow::Borrowed(connect.client_id().as_str()),
        };
        let user_name = connect.user_name().map(Text::as_str);
        let client = Client::new(&client_id, user_name, peer);
        let login = Login {
            client,
            id_was_given: given_id,
            password: connect.password().map(<[u8]>::to_vec),
            protocol: connect.protocol(),
            clean_session: connect.clean_session(),
            keep_alive: connect.keep_alive(),
            will,
        };
        let (admission, event) = match shared.hooks.authenticate(&login) {
            Authentication::Done(admission) => (Some(admission), None),
            Authentication::Later(decision) => (None, Some(Event::Authenticate(decision))),
        };
        self.stage = Stage::Admitting(Box::new(Candidate { deadline, login, event }));
        match admission {
            Some(admission) => self.decide(worker, admission, now),
            None => Ok(()),
        }
    }

    /// Carries out the decision on the login.
    pub(super) fn decide(
        &mut self,
        worker: &mut Worker,
        admission: Admission,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        if !matches!(self.stage, Stage::Admitting(_)) {
            return Ok(());
        }
        if let Admission::Refuse(code) = admission {
            return Err(self.refuse(code, worker));
        }
        let shared = self.broker.shared();
        let stage = std::mem::replace(&mut self.stage, Stage::Closing(Ok(Closed::TakenOver)));
        let Stage::Admitting(candidate) = stage else { return Ok(()) };
        let Login { client, will, keep_alive, clean_session, .. } = candidate.login;
        let client = match admission {
            Admission::AcceptAs(other) => Arc::from(other),
            _ => Arc::new(client),
        };

        if !clean_session && !shared.takes_sessions() {
            // Each CONNECT is recorded, and nothing holds back who comes again and again.
            return Err(self.refuse(ConnectReturnCode::ServerUnavailable, worker));
        }
        let mut tx = shared.transaction();
        tx.open();
        let config = &shared.config;
        let now = shared.origin.moment(now);
        let opened = shared.registry.open(&client, clean_session, config, now, &mut tx);
        let Ok(opened) = opened else {
            drop(tx);
            return Err(self.refuse(ConnectReturnCode::ServerUnavailable, worker));
        };
        // Before the new connection begins: the old one's will may be meant for it.
        // An older session of the client must not come back after a restart, whoever ended it.
        let mut after = tx.last_end();
        shared.settle([opened.displaced], tx, worker);
        let connack =
            ConnAck { session_present: opened.present, code: ConnectReturnCode::Accepted };
        {
            let mut tx = shared.transaction_for(&opened.session);
            let mut state = opened.session.lock();
            if state.epoch != opened.epoch || state.is_ended() {
                // Somebody else came with the same id in between; the stage is as it should be.
                return Ok(());
            }
            let owner = Arc::clone(&client);
            state.will = will.map(|message| Box::new(Will { message, client: owner }));
            state.owner = Some(Arc::clone(&client));
            if opened.session.is_kept() {
                tx.record(opened.session.record(&state));
                // The will is promised with the CONNACK, what is unfinished goes out again only as
                // what is durable, and from now on messages may have been sent.
                after = tx.after();
            }
            state.attach(connack, after, &shared.config, worker, &mut tx);
            tx.touch(&opened.session, &mut state);
        }
        shared.count_connected();
        self.stage = Stage::Open(Open {
            session: opened.session,
            epoch: opened.epoch,
            client: Arc::clone(&client),
            connack: Some(connack),
            keep_alive,
            held: None,
            is_replaying: opened.present,
            is_choked: false,
        });
        // Last, so that a hook that panics leaves a connection that can be ended.
        shared.hooks.connected(&client, opened.present);
        Ok(())
    }

    /// Answers a CONNECT with a code other than 0 [MQTT-3.2.2-4], [MQTT-3.2.2-5].
    fn refuse(&mut self, code: ConnectReturnCode, worker: &mut Worker) -> ConnectionError {
        let connack = ConnAck { session_present: false, code };
        self.replies.push(&connack.into(), 0, worker);
        ConnectionError::Refused(code)
    }

    /// A packet that cannot be decoded: some faults of a CONNECT have an answer, the others just end
    /// the connection [MQTT-3.1.4-1].
    pub(super) fn refuse_malformed(
        &mut self,
        error: DecodeError,
        worker: &mut Worker,
    ) -> ConnectionError {
        match (error.connack_code(), &self.stage) {
            (Some(code), Stage::Connecting(_)) => self.refuse(code, worker),
            _ => error.into(),
        }
    }
}
