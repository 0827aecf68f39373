//! A client's login at a service.

use bytes::Bytes;
use rand_core::CryptoRng;

use super::{LoginError, Stage, connection_secret, undecipherable};
use crate::crypt::{Usage, open, seal};
use crate::message::{Authorize, Authorizer, decode_authorize_reply, decode_challenge};
use crate::secret::SealedNumber;
use crate::ticket::Ticket;
use crate::wire::{Reader, Writer};
use crate::{ConnectionSecret, Key};

/// One login at a service, with a ticket for it.
///
/// The driver sends what [`request`](Self::request) gives as the payload of an `AUTH_REQUEST`, answers the
/// `AUTH_REPLY_MORE` with what [`handle_more`](Self::handle_more) makes of it, and gives the payload of the `AUTH_DONE`
/// to [`handle_done`](Self::handle_done).
///
/// Source: `src/auth/cephx/CephxProtocol.cc` (`CephXTicketHandler::build_authorizer`, `CephXAuthorizer`).
#[derive(Debug)]
pub struct ServiceLogin {
    ticket: Ticket,
    global_id: u64,
    nonce: SealedNumber,
    first: Bytes,
    stage: Stage,
}

/// What a login at a service brings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authorized {
    /// The key that signs the handshake: the ticket's.
    pub session_key: Key,
    /// The secret for the connection's encryption, when it will be secure.
    pub connection_secret: Option<ConnectionSecret>,
}

impl ServiceLogin {
    /// A login with this ticket, by the client whose number is `global_id`.
    pub fn new(ticket: &Ticket, global_id: u64, rng: &mut dyn CryptoRng) -> Self {
        let mut login = ServiceLogin {
            ticket: ticket.clone(),
            global_id,
            nonce: SealedNumber::generate(rng),
            first: Bytes::new(),
            stage: Stage::Start,
        };
        login.first = login.authorizer(None, rng);
        login
    }

    fn authorizer(&self, challenge_plus_one: Option<u64>, rng: &mut dyn CryptoRng) -> Bytes {
        let mut authorize = Writer::new();
        Authorize { nonce: self.nonce.get(), challenge_plus_one }.encode(&mut authorize);
        let sealed = seal(&self.ticket.session_key, Usage::Authorize, authorize.as_slice(), rng);
        let mut out = Writer::new();
        Authorizer {
            global_id: self.global_id,
            service: self.ticket.service,
            ticket: self.ticket.blob.clone(),
            authorize: &sealed,
        }
        .encode(&mut out);
        out.into_bytes()
    }

    /// The payload of the `AUTH_REQUEST`: an authorizer. To call it again starts the login again.
    pub fn request(&mut self) -> Bytes {
        self.stage = Stage::Requested;
        self.first.clone()
    }

    /// Takes the service's challenge, the payload of its `AUTH_REPLY_MORE`, and gives the payload of the
    /// `AUTH_REQUEST_MORE` that answers it.
    ///
    /// # Errors
    ///
    /// The peer's fault: the challenge is not sealed with the ticket's session key, which only a service with the right
    /// secret can know, or came out of turn. The connection is over.
    pub fn handle_more(&mut self, payload: &[u8], rng: &mut dyn CryptoRng) -> Result<Bytes, LoginError> {
        self.stage.leave(Stage::Requested)?;
        let opened = open(&self.ticket.session_key, Usage::AuthorizeChallenge, payload)
            .map_err(undecipherable("the challenge"))?;
        let challenge = decode_challenge(&mut Reader::new(&opened))?;
        let answer = self.authorizer(Some(challenge.wrapping_add(1)), rng);
        self.stage = Stage::Answered;
        Ok(answer)
    }

    /// Takes the end of the exchange, the payload of an `AUTH_DONE`. `secure` tells whether its mode encrypts the
    /// connection.
    ///
    /// # Errors
    ///
    /// The peer's fault: above all, that it could not read our nonce. The connection is over.
    pub fn handle_done(&mut self, secure: bool, payload: &[u8]) -> Result<Authorized, LoginError> {
        self.stage.leave(Stage::Answered)?;
        let sealed = Reader::new(payload).prefixed("a service's reply")?;
        let session_key = self.ticket.session_key.clone();
        let opened = open(&session_key, Usage::AuthorizeReply, sealed)
            .map_err(undecipherable("the service's reply"))?;
        let (nonce_plus_one, secret) = decode_authorize_reply(&mut Reader::new(&opened))?;
        if !self.nonce.is_answered_by(nonce_plus_one) {
            return Err(LoginError::Nonce);
        }
        let connection_secret = connection_secret(secure, secret)?;
        Ok(Authorized { session_key, connection_secret })
    }
}
