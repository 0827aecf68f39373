//! The dialling end's handshake (spec: client side state machine).

use super::{AuthState, Connection, ConnectionEvent, State};
use crate::compress::{Algorithm, Compressor, Decompressor};
use crate::error::ConnectionError;
use crate::frame::{Side, secure_pair};
use crate::session::Session;
use crate::session::handshake::Opening;
use crate::wire::{
    AddrKind, AddrVec, AuthDone, AuthSignature, CompressionDone, CompressionRequest, ConnectionMode, Control,
    EntityAddr, Hello, ServerIdent,
};
use outlast_session::Instant;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The highest count of attempts that an acceptor can have seen: Ceph keeps 32 bits of it, and no process dials more often.
const GLOBAL_SEQ_BELIEVED_MAX: u64 = u32::MAX as u64;

/// The acceptor's decision, kept until `sync` can take it to the session.
#[derive(Debug)]
pub(super) enum Reply {
    ServerIdent(ServerIdent),
    ReconnectOk(u64),
    Retry(u64),
    RetryGlobal(u64),
    Reset(bool),
    Wait,
    MissingFeatures(u64),
}

impl Connection {
    pub(super) fn connector_control(&mut self, control: Control) -> Result<(), ConnectionError> {
        match (self.state, control) {
            (State::HelloConnecting, Control::Hello(hello)) => self.connector_hello(hello),
            (State::AuthConnecting, Control::AuthBadMethod(bad)) => {
                self.count_auth_round()?;
                self.agreement.allowed = Some(bad.clone());
                let modes = self.offered_modes();
                let AuthState::Client(auth) = &mut self.auth else {
                    return Err(ConnectionError::NoCommonMethod);
                };
                let request = auth.bad_method(&bad, &modes, &mut self.rng)?;
                self.set_state(State::AuthConnecting);
                self.send(&request)
            }
            (State::AuthConnecting, Control::AuthReplyMore(more)) => {
                self.count_auth_round()?;
                let AuthState::Client(auth) = &mut self.auth else {
                    return Err(ConnectionError::NoCommonMethod);
                };
                let request = auth.more(&more.payload, &mut self.rng)?;
                self.set_state(State::AuthConnecting);
                self.send(&request)
            }
            (State::AuthConnecting, Control::AuthDone(done)) => self.connector_auth_done(&done),
            (State::AuthConnectingSign, Control::AuthSignature(signature)) => {
                self.check_signature(&signature)?;
                // Not before: what an impostor says of our address would stay with the process.
                self.events.extend(self.learned.take().map(ConnectionEvent::LearnedAddress));
                if self.compression_spoken() {
                    let wanted = self.compression_allowed();
                    let preferred_methods = if wanted {
                        self.config.compression.algorithms.iter().map(|a| a.method()).collect()
                    } else {
                        Vec::new()
                    };
                    self.send(&CompressionRequest { wanted, preferred_methods })?;
                    self.set_state(State::CompressionConnecting);
                } else {
                    self.set_state(State::SessionOpening);
                }
                Ok(())
            }
            (State::CompressionConnecting, Control::CompressionDone(done)) => {
                self.connector_compression(&done)
            }
            (State::SessionConnecting, Control::ServerIdent(ident)) => self.keep(Reply::ServerIdent(ident)),
            (State::SessionConnecting, Control::IdentMissingFeatures(missing)) => {
                self.keep(Reply::MissingFeatures(missing.features))
            }
            (State::SessionReconnecting, Control::SessionReconnectOk(ok)) => {
                self.keep(Reply::ReconnectOk(ok.msg_seq))
            }
            (State::SessionReconnecting, Control::SessionRetry(retry)) => {
                self.keep(Reply::Retry(retry.connect_seq))
            }
            (State::SessionReconnecting, Control::SessionRetryGlobal(retry)) => {
                self.keep(Reply::RetryGlobal(retry.global_seq))
            }
            (State::SessionReconnecting, Control::SessionReset(reset)) => self.keep(Reply::Reset(reset.full)),
            (State::SessionConnecting | State::SessionReconnecting, Control::Wait(_)) => {
                self.keep(Reply::Wait)
            }
            (_, control) => self.unexpected(&control),
        }
    }

    fn keep(&mut self, reply: Reply) -> Result<(), ConnectionError> {
        self.reply = Some(reply);
        Ok(())
    }

    pub(super) fn count_auth_round(&mut self) -> Result<(), ConnectionError> {
        self.auth_rounds += 1;
        // Its signature could not be checked any more: there is nothing to wait for.
        self.decoder.check_transcript()?;
        if self.auth_rounds > super::AUTH_ROUNDS_MAX { Err(ConnectionError::NoCommonMethod) } else { Ok(()) }
    }

    fn connector_hello(&mut self, hello: Hello) -> Result<(), ConnectionError> {
        if let Some(wanted) = self.wanted_type.filter(|w| *w != hello.entity_type) {
            return Err(ConnectionError::WrongType { wanted, found: hello.entity_type });
        }
        self.learn_address(&hello.peer_address);
        let peer_type = hello.entity_type;
        self.agreement.peer_hello = Some(hello);
        let modes = self.offered_modes();
        let AuthState::Client(auth) = &mut self.auth else { return Err(ConnectionError::NoCommonMethod) };
        let request = auth.first(peer_type, &modes, &mut self.rng)?;
        self.set_state(State::AuthConnecting);
        self.send(&request)
    }

    /// A client without an address takes the one the peer sees (spec: "useful for detecting our effective IP
    /// address"); its port is not one that anybody could dial.
    fn learn_address(&mut self, seen: &EntityAddr) {
        let blank = self.intro.addresses.0.iter().all(|a| a.sockaddr.is_blank());
        if !blank || seen.sockaddr.is_blank() {
            return;
        }
        let nonce = self.intro.addresses.0.first().map_or(0, |a| a.nonce);
        let mut sockaddr = seen.sockaddr;
        sockaddr.set_port(0);
        let learned = EntityAddr { kind: AddrKind::ANY, nonce, sockaddr };
        self.intro.addresses = AddrVec(vec![learned]);
        self.learned = Some(learned);
    }

    /// The modes that may be spoken on this connection, in order of preference.
    pub(super) fn offered_modes(&self) -> Vec<ConnectionMode> {
        let secure = self.agreement.revision_1 || self.config.allow_secure_revision_0;
        self.config.modes.iter().copied().filter(|m| *m != ConnectionMode::SECURE || secure).collect()
    }

    fn connector_auth_done(&mut self, done: &AuthDone) -> Result<(), ConnectionError> {
        if !self.offered_modes().contains(&done.mode) {
            return Err(ConnectionError::ModeNotOffered(done.mode));
        }
        let AuthState::Client(auth) = &mut self.auth else { return Err(ConnectionError::NoCommonMethod) };
        let authenticated = auth.done(done)?;
        if self.config.number.is_none() {
            self.intro.number = i64::try_from(authenticated.global_id).unwrap_or(-1);
        }
        self.agreement.mode = Some(done.mode);
        self.agreement.method = Some(authenticated.method);
        self.authenticated = Some(authenticated);
        self.start_signing(Side::Client, done.mode)?;
        self.set_state(State::AuthConnectingSign);
        Ok(())
    }

    /// AUTH_DONE is through: everything from here on is in the agreed mode, beginning with the signatures. Each end
    /// signs what it received up to AUTH_DONE or the last request, so that a changed banner or a mode talked down
    /// comes to light.
    pub(super) fn start_signing(&mut self, side: Side, mode: ConnectionMode) -> Result<(), ConnectionError> {
        let received = self.decoder.take_transcript()?;
        let sent = self.out.take_transcript()?;
        let Some(authenticated) = &self.authenticated else { return Err(ConnectionError::NoCommonMethod) };
        let digest = authenticated.sign(&received);
        self.expected_signature = Some(Zeroizing::new(authenticated.sign(&sent)));
        if mode == ConnectionMode::SECURE {
            let revision = self.encoder.revision();
            let (sealer, opener) = authenticated.with_secret(|secret| secure_pair(secret, side, revision))?;
            self.encoder.set_sealer(sealer);
            self.decoder.set_opener(opener);
        }
        self.send(&AuthSignature { digest })
    }

    pub(super) fn check_signature(&mut self, signature: &AuthSignature) -> Result<(), ConnectionError> {
        let expected = self.expected_signature.take().ok_or(ConnectionError::Signature)?;
        if bool::from(expected.ct_eq(&signature.digest)) { Ok(()) } else { Err(ConnectionError::Signature) }
    }

    /// Whether this end wants compressed frames in the mode that was agreed.
    pub(super) fn compression_allowed(&self) -> bool {
        let config = &self.config.compression;
        let secure = self.agreement.mode == Some(ConnectionMode::SECURE);
        !config.algorithms.is_empty() && (!secure || config.in_secure_mode)
    }

    pub(super) fn start_compression(&mut self, algorithm: Algorithm) {
        let threshold = self.config.compression.threshold_bytes;
        self.encoder.set_compression(Some(Compressor::new(algorithm, threshold)));
        self.decoder.set_decompression(Some(Decompressor::new(algorithm)));
        self.agreement.compression = Some(algorithm);
    }

    fn connector_compression(&mut self, done: &CompressionDone) -> Result<(), ConnectionError> {
        if done.granted {
            let algorithm = Algorithm::from_method(done.method)
                .filter(|a| self.compression_allowed() && self.config.compression.algorithms.contains(a))
                .ok_or(ConnectionError::CompressionNotOffered)?;
            self.start_compression(algorithm);
        }
        self.set_state(State::SessionOpening);
        Ok(())
    }

    // ------------------------------------------------------------------ with the session

    pub(super) fn open_session(&mut self, session: &mut Session) -> Result<(), ConnectionError> {
        session.peer.entity_type = self.agreement.peer_hello.as_ref().map_or(0, |h| h.entity_type);
        let opening = session.open(self.id, &self.intro)?;
        self.introduce(opening)
    }

    fn introduce(&mut self, opening: Opening) -> Result<(), ConnectionError> {
        match opening {
            Opening::Ident(ident) => {
                self.set_state(State::SessionConnecting);
                self.send(&ident)
            }
            Opening::Reconnect(reconnect) => {
                self.set_state(State::SessionReconnecting);
                self.send(&reconnect)
            }
        }
    }

    pub(super) fn take_reply(
        &mut self,
        session: &mut Session,
        reply: Reply,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        match reply {
            Reply::ServerIdent(ident) => {
                session.take_server_ident(self.id, &ident, &self.intro, now)?;
                self.enter_ready(now);
                Ok(())
            }
            Reply::ReconnectOk(msg_seq) => {
                session.take_reconnect_ok(self.id, msg_seq, now)?;
                self.enter_ready(now);
                Ok(())
            }
            Reply::Retry(connect_seq) => {
                self.count_retry()?;
                let opening = session.take_retry(self.id, connect_seq, &self.intro)?;
                self.introduce(opening)
            }
            Reply::RetryGlobal(global_seq) => {
                self.count_retry()?;
                self.intro.global_seq = global_seq.max(self.intro.global_seq).saturating_add(1);
                // One acceptor's word must not use up the numbers of the whole process.
                if self.intro.global_seq <= GLOBAL_SEQ_BELIEVED_MAX {
                    self.events.push_back(ConnectionEvent::RaiseGlobalSeq(self.intro.global_seq));
                }
                let opening = session.take_retry_global(self.id, &self.intro)?;
                self.introduce(opening)
            }
            Reply::Reset(full) => {
                self.count_retry()?;
                let opening = session.take_reset(self.id, full, &self.intro)?;
                self.introduce(opening)
            }
            Reply::Wait => Err(ConnectionError::Wait),
            Reply::MissingFeatures(missing) => Err(ConnectionError::MissingFeatures { missing }),
        }
    }

    fn count_retry(&mut self) -> Result<(), ConnectionError> {
        self.retries += 1;
        if self.retries > super::RETRIES_MAX {
            return Err(ConnectionError::TooManyRetries { limit: super::RETRIES_MAX });
        }
        Ok(())
    }
}
