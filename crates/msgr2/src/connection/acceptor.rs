//! The accepting end's handshake (spec: server side state machine).

use super::auth::ServerStep;
use super::{AuthState, Authenticated, Authority, Connection, Refusal, State};
use crate::compress::Algorithm;
use crate::endpoint::{Introduced, SessionRequest};
use crate::error::ConnectionError;
use crate::frame::Side;
use crate::wire::{
    AuthReplyMore, AuthRequest, CompressionDone, CompressionMethod, CompressionRequest, Control,
};
use outlast_session::Instant;
use std::sync::Arc;

impl Connection {
    pub(super) fn acceptor_control(&mut self, control: Control, now: Instant) -> Result<(), ConnectionError> {
        match (self.state, control) {
            (State::HelloAccepting, Control::Hello(hello)) => {
                self.agreement.peer_hello = Some(hello);
                self.set_state(State::AuthAccepting);
                Ok(())
            }
            // A dialler whose method was refused comes again on the same connection.
            (State::AuthAccepting | State::AuthAcceptingMore, Control::AuthRequest(request)) => {
                self.acceptor_auth(&request, now)
            }
            (State::AuthAcceptingMore, Control::AuthRequestMore(more)) => {
                self.count_auth_round()?;
                let modes = self.offered_modes();
                let AuthState::Server(auth) = &mut self.auth else {
                    return Err(ConnectionError::NoCommonMethod);
                };
                let step = auth.more(&more.payload, &modes, &mut self.rng)?;
                self.acceptor_step(step)
            }
            (State::AuthAcceptingSign, Control::AuthSignature(signature)) => {
                self.check_signature(&signature)?;
                self.set_state(if self.compression_spoken() {
                    State::CompressionAccepting
                } else {
                    State::SessionAccepting
                });
                Ok(())
            }
            (State::CompressionAccepting, Control::CompressionRequest(request)) => {
                self.acceptor_compression(&request)
            }
            (State::SessionAccepting, Control::ClientIdent(ident)) => self.ask(Introduced::Ident(ident)),
            (State::SessionAccepting, Control::SessionReconnect(reconnect)) => {
                self.ask(Introduced::Reconnect(reconnect))
            }
            (_, control) => self.unexpected(&control),
        }
    }

    fn acceptor_auth(&mut self, request: &AuthRequest, _now: Instant) -> Result<(), ConnectionError> {
        self.count_auth_round()?;
        let modes = self.offered_modes();
        let peer_type = self.agreement.peer_hello.as_ref().map_or(0, |h| h.entity_type);
        let AuthState::Server(auth) = &mut self.auth else { return Err(ConnectionError::NoCommonMethod) };
        let step = auth.request(request, peer_type, &modes, &mut self.rng)?;
        self.acceptor_step(step)
    }

    fn acceptor_step(&mut self, step: ServerStep) -> Result<(), ConnectionError> {
        match step {
            ServerStep::More(payload) => {
                self.set_state(State::AuthAcceptingMore);
                self.send(&AuthReplyMore { payload })
            }
            ServerStep::Bad(bad) => {
                self.set_state(State::AuthAccepting);
                self.agreement.allowed = Some(bad.clone());
                self.send(&bad)
            }
            ServerStep::Busy => {
                self.set_state(State::AuthStandby);
                Ok(())
            }
            ServerStep::Done(done, authenticated) => {
                self.agreement.mode = Some(done.mode);
                self.agreement.method = Some(authenticated.method);
                self.authenticated = Some(*authenticated);
                // Still in crc mode; the next frame in each direction is in the agreed one.
                self.send(&done)?;
                self.start_signing(Side::Server, done.mode)?;
                self.set_state(State::AuthAcceptingSign);
                Ok(())
            }
        }
    }

    /// The authority was busy and is no longer: the request that was kept is tried again with this one. Nothing
    /// happens in any other state.
    ///
    /// # Errors
    /// As for bytes read.
    pub fn retry_authentication(
        &mut self,
        authority: Arc<Authority>,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        if self.state != State::AuthStandby {
            return Ok(());
        }
        let modes = self.offered_modes();
        let AuthState::Server(auth) = &mut self.auth else { return Err(ConnectionError::NoCommonMethod) };
        auth.set_authority(authority);
        let step = match auth.retry(&modes, &mut self.rng) {
            Ok(ServerStep::Busy) => return Ok(()),
            Ok(step) => step,
            Err(error) => return Err(self.fail(error)),
        };
        self.acceptor_step(step).and_then(|()| self.parse(now)).map_err(|e| self.fail(e))
    }

    /// Why this end last refused the peer; the peer was not told.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match &self.auth {
            AuthState::Server(auth) => auth.refusal(),
            AuthState::Client(_) => None,
        }
    }

    fn acceptor_compression(&mut self, request: &CompressionRequest) -> Result<(), ConnectionError> {
        // The dialler's first choice that this end has too.
        let common = request
            .preferred_methods
            .iter()
            .filter_map(|m| Algorithm::from_method(*m))
            .find(|a| self.config.compression.algorithms.contains(a));
        let granted = common.filter(|_| request.wanted && self.compression_allowed());
        let method = granted.map_or(CompressionMethod::NONE, Algorithm::method);
        // The answer itself goes as it is.
        self.send(&CompressionDone { granted: granted.is_some(), method })?;
        if let Some(algorithm) = granted {
            self.start_compression(algorithm);
        }
        self.set_state(State::SessionAccepting);
        Ok(())
    }

    fn ask(&mut self, introduced: Introduced) -> Result<(), ConnectionError> {
        self.count_decision()?;
        self.set_state(State::SessionDeciding);
        self.request = Some(SessionRequest {
            channel: self.id,
            introduced,
            entity_type: self.agreement.peer_hello.as_ref().map_or(0, |h| h.entity_type),
            name: self.authenticated.as_ref().and_then(Authenticated::proven_name),
            global_id: self.authenticated.as_ref().map_or(0, |a| a.global_id),
            features_supported: self.config.features_supported,
            features_required: self.config.features_required,
        });
        Ok(())
    }

    fn count_decision(&mut self) -> Result<(), ConnectionError> {
        self.retries += 1;
        if self.retries > super::RETRIES_MAX {
            return Err(ConnectionError::TooManyRetries { limit: super::RETRIES_MAX });
        }
        Ok(())
    }
}
