#![forbid(unsafe_code)]
//! Ceph's authentication, cephx: give a login or an acceptor each payload the peer sends (`handle_*`), and send what the
//! call returns; nothing is queued, so there is nothing to poll or to drain.
//!
//! The crate is pure: it opens no socket, reads no clock and draws no random numbers. Time is a [`Timestamp`] and
//! randomness a `rand_core::CryptoRng` that the caller passes in.
//!
//! # How cephx works
//!
//! Every entity of a cluster has a secret [`Key`], in a [`Keyring`] file; the monitors have everybody's. A client logs
//! in to a monitor once ([`client::MonitorLogin`], [`server::MonitorAcceptor`]):
//!
//! 1. The client says its name, and its number if it had one before.
//! 2. The monitor answers with a random challenge.
//! 3. The client answers with a challenge of its own and a 64-bit proof: both challenges under its key. With it comes
//!    the old ticket, if it wants to keep its number, and a mask of services it wants to speak to.
//! 4. The monitor sends tickets. Each has a part for the client, which holds a fresh session key, sealed with the
//!    client's key, and a part for the service with the same session key, sealed with a secret that monitors and
//!    services share and change every hour ([`server::ServiceSecrets`]). The first is the auth ticket, for the monitors
//!    themselves; the others come sealed with its session key. So does a secret for the connection, if it is to be
//!    encrypted ([`ConnectionSecret`]).
//!
//! A service knows nobody's key. It lets a client in by its ticket ([`client::ServiceLogin`],
//! [`server::ServiceAcceptor`]): the client shows the service's part, which it cannot read, and a nonce under the
//! session key; the service sends a challenge under that key, gets it back plus one, and proves in turn that it could
//! read the nonce by sending that plus one, with the connection's secret.
//!
//! Then both ends sign everything that was sent so far with the session key ([`Key::hmac_sha256`]; that is msgr2's
//! business), so that nobody in between can have changed what was agreed.
//!
//! Between two ends of our own there need be no cluster: an acceptor with a keyring and secrets of its own is a monitor
//! to whoever connects.
//!
//! ```
//! use outlast_cephx::client::MonitorLogin;
//! use outlast_cephx::keyring::Entry;
//! use outlast_cephx::server::{Authority, MonitorAcceptor, Step, TicketSecrets};
//! use outlast_cephx::{EntityName, EntityType, Key, KeyType, Keyring, ServiceMask, Timestamp};
//! # use rand::SeedableRng as _;
//! # let mut rng = rand::rngs::StdRng::seed_from_u64(1);
//! # let now = Timestamp::new(1_800_000_000, 0);
//!
//! // Both know the key of client.copy; the acceptor makes secrets for its tickets.
//! let name = EntityName::new(EntityType::Client, "copy");
//! let key = Key::generate(KeyType::default(), now, &mut rng);
//! let mut keyring = Keyring::new();
//! keyring.insert(name.clone(), Entry::new(key.clone()));
//! let secrets = TicketSecrets::generate(KeyType::default(), ServiceMask::NONE, now, &mut rng);
//!
//! let mut login = MonitorLogin::new(name.clone(), key, ServiceMask::NONE, None);
//! let mut acceptor = MonitorAcceptor::new();
//! let Step::More(challenge) = acceptor.handle_request(&login.request(), &mut rng) else { panic!() };
//! let answer = login.handle_more(&challenge, &mut rng)?;
//! let authority = Authority { keys: &keyring, secrets: &secrets, now };
//! let step = acceptor.handle_more(&answer, true, &authority, &mut || 4123, &mut rng);
//! let Step::Done(accepted) = step else { panic!() };
//! let login = login.handle_done(accepted.global_id, true, &accepted.payload, now)?;
//!
//! assert_eq!(accepted.entity, name);
//! assert_eq!(login.session_key, accepted.session_key);
//! assert_eq!(login.connection_secret, accepted.connection_secret);
//! # Ok::<(), outlast_cephx::client::LoginError>(())
//! ```
//!
//! # What it gives, and what it does not
//!
//! - **Both ends are proved**, the monitor by sealing with the client's key, the service by opening the ticket. But the
//!   monitor's answer is not bound to the client's challenge: a recorded one opens again. What proves that the monitor
//!   is there now is the signature over the handshake, so no login is finished before it is checked.
//! - **There is no forward secrecy.** Session keys and connection secrets travel under long-lived keys. Who records the
//!   traffic and learns a client's key later can read all of it.
//! - **A 64-bit proof** can be guessed offline for a weak key; keys are random, so there are none.
//! - **Keys of type `aes` have no integrity** (CVE-2025-30156): a ticket can be changed by who cannot read it. Ceph's
//!   answer is type `aes256k` ([`KeyType`]), which this crate makes unless told otherwise; either type of a client's key
//!   works with either type of the services' secrets.
//! - **A number is kept only with the ticket that came with it** (CVE-2021-20288).
//! - **A refusal tells nothing**: unknown name, wrong proof, stale ticket are one error number, after the same steps.
//!
//! The facts are from Ceph's sources (`src/auth/`) and Linux's (`net/ceph/`), as named at each item.

pub mod client;
pub mod crypt;
mod entity;
mod key;
pub mod keyring;
mod message;
pub mod none;
mod secret;
pub mod server;
mod ticket;
mod time;
mod wire;

pub use entity::{ENTITY_ID_BYTES_MAX, EntityName, EntityNameError, EntityType};
pub use key::{KEY_BYTES_MAX, Key, KeyError, KeyType};
pub use keyring::Keyring;
pub use message::AuthMode;
pub use secret::{CONNECTION_SECRET_BYTES_MAX, CONNECTION_SECRET_BYTES_MIN, ConnectionSecret};
pub use ticket::{ServiceMask, Ticket, Tickets};
pub use time::Timestamp;
pub use wire::DecodeError;

/// Who is to blame for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The other end sent what it must not.
    Peer,
    /// Whoever configured or called us.
    User,
    /// Neither: the machine, the disk, the network.
    Environment,
}
