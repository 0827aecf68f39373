//! A service lets clients in by their tickets.

use std::time::Duration;

use bytes::Bytes;
use rand_core::CryptoRng;

use super::{Accepted, CLOCK_SKEW_SECONDS_MAX, RefusalReason, ServiceSecrets, Step};
use crate::crypt::{Usage, open, seal, seal_prefixed};
use crate::message::{Authorize, Authorizer, ServicePart, encode_authorize_reply, encode_challenge};
use crate::secret::SealedNumber;
use crate::wire::{Reader, Writer};
use crate::{ConnectionSecret, EntityType, Timestamp};

/// One login, seen from a service.
///
/// The driver gives the payload of the `AUTH_REQUEST` to [`handle_request`](Self::handle_request) and that of the
/// `AUTH_REQUEST_MORE` to [`handle_more`](Self::handle_more), and does what the [`Step`]s say. There is always a
/// challenge, so an authorizer that was recorded is worth nothing, and a challenge is good for one answer.
///
/// ```text
/// Idle --handle_request--> Challenged --handle_more--> Idle
/// ```
///
/// Source: `src/auth/cephx/CephxProtocol.cc` (`cephx_verify_authorizer`), `CephxAuthorizeHandler.cc`.
#[derive(Debug)]
pub struct ServiceAcceptor {
    service: EntityType,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Challenged {
        challenge: SealedNumber,
        /// The sealed ticket of the first round, which the second must show again.
        ticket: Bytes,
    },
}

/// An authorizer whose ticket opened and whose client knows the ticket's session key.
struct Verified {
    part: ServicePart,
    ticket: Bytes,
    authorize: Authorize,
}

impl ServiceAcceptor {
    /// Waits for a request to a service of this kind.
    pub fn new(service: EntityType) -> Self {
        ServiceAcceptor { service, stage: Stage::Idle }
    }

    /// Takes the payload of an `AUTH_REQUEST`: an authorizer.
    pub fn handle_request(
        &mut self,
        payload: &[u8],
        secrets: &ServiceSecrets,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Step {
        self.stage = Stage::Idle;
        Step::from(self.challenge(payload, secrets, now, rng))
    }

    fn challenge(
        &mut self,
        payload: &[u8],
        secrets: &ServiceSecrets,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<Step, RefusalReason> {
        let verified = self.verify(payload, secrets, now)?;
        let challenge = SealedNumber::generate(rng);
        let mut out = Writer::new();
        encode_challenge(challenge.get(), &mut out);
        let sealed = seal(&verified.part.session_key, Usage::AuthorizeChallenge, out.as_slice(), rng);
        self.stage = Stage::Challenged { challenge, ticket: verified.ticket };
        Ok(Step::More(sealed.into()))
    }

    /// Takes the payload of an `AUTH_REQUEST_MORE`: the authorizer again, now with an answer to the challenge. `secure`
    /// tells whether the connection's mode encrypts.
    pub fn handle_more(
        &mut self,
        payload: &[u8],
        secure: bool,
        secrets: &ServiceSecrets,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Step {
        let stage = std::mem::take(&mut self.stage);
        Step::from(self.accept(stage, payload, secure, secrets, now, rng))
    }

    fn accept(
        &self,
        stage: Stage,
        payload: &[u8],
        secure: bool,
        secrets: &ServiceSecrets,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<Step, RefusalReason> {
        let (challenge, first_ticket) = match stage {
            Stage::Idle => return Err(RefusalReason::NoChallenge),
            Stage::Challenged { challenge, ticket } => (challenge, ticket),
        };
        let Verified { part, ticket, authorize } = self.verify(payload, secrets, now)?;
        if ticket != first_ticket {
            return Err(RefusalReason::OtherTicket);
        }
        let answer = authorize.challenge_plus_one.ok_or(RefusalReason::Challenge)?;
        if !challenge.is_answered_by(answer) {
            return Err(RefusalReason::Challenge);
        }

        let connection_secret = secure.then(|| ConnectionSecret::generate(rng));
        let mut reply = Writer::new();
        let secret = connection_secret.as_ref().map_or(&[][..], ConnectionSecret::as_bytes);
        encode_authorize_reply(authorize.nonce.wrapping_add(1), secret, &mut reply);
        let payload = seal_prefixed(&part.session_key, Usage::AuthorizeReply, reply.as_slice(), rng);
        Ok(Step::Done(Box::new(Accepted {
            entity: part.name,
            global_id: part.global_id,
            payload: payload.into(),
            session_key: part.session_key,
            connection_secret,
            caps: part.caps,
            expires: part.expires,
        })))
    }

    fn verify(
        &self,
        payload: &[u8],
        secrets: &ServiceSecrets,
        now: Timestamp,
    ) -> Result<Verified, RefusalReason> {
        let authorizer = Authorizer::decode(&mut Reader::new(payload))?;
        if authorizer.service != self.service {
            return Err(RefusalReason::OtherService(authorizer.service));
        }
        let part = secrets.open_ticket(&authorizer.ticket)?;
        if part.global_id != authorizer.global_id {
            return Err(RefusalReason::OtherTicket);
        }
        let skew = Duration::from_secs(u64::from(CLOCK_SKEW_SECONDS_MAX));
        if part.expires.saturating_add(skew) < now {
            return Err(RefusalReason::Expired { expires: part.expires });
        }
        let opened = open(&part.session_key, Usage::Authorize, authorizer.authorize)
            .map_err(|_| RefusalReason::Undecipherable)?;
        let authorize = Authorize::decode(&mut Reader::new(&opened))?;
        Ok(Verified { part, ticket: authorizer.ticket.sealed, authorize })
    }
}
