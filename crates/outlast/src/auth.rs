//! Who may come in, and what this end proves itself with.

use crate::error::{BuildError, ConnectError, ListenError};
use outlast_cephx::server::{Keys, TicketSecrets};
use outlast_cephx::{EntityName, Key, KeyType, Keyring, ServiceMask, Tickets, Timestamp};
use outlast_msgr2::{Authority, Credential};
use outlast_net::Clock;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How a messenger authenticates: a choice that has no default.
#[derive(Clone)]
pub struct Auth(pub(crate) Means);

#[derive(Clone)]
pub(crate) enum Means {
    None,
    Key(Key),
    Keys(Arc<dyn Keys + Send + Sync>),
}

impl Auth {
    /// Not at all: whoever comes is believed by the name that they say, and anybody on the way can read and change
    /// what is sent (crc mode: the checksums are against accidents). For loopback and networks that are trusted
    /// wholly.
    #[must_use]
    pub const fn none() -> Self {
        Self(Means::None)
    }

    /// A client that proves to be the builder's name by this key. It cannot let anybody in.
    #[must_use]
    pub const fn key(key: Key) -> Self {
        Self(Means::Key(key))
    }

    /// Lets in whoever is in the keyring, and dials with the key of the builder's own name if that is in it too.
    #[must_use]
    pub fn keyring(keyring: Keyring) -> Self {
        Self::keys(Arc::new(keyring))
    }

    /// As [`Auth::keyring`], for keys that are kept elsewhere. Asked under the messenger's lock: it must not block.
    #[must_use]
    pub fn keys(keys: Arc<dyn Keys + Send + Sync>) -> Self {
        Self(Means::Keys(keys))
    }

    pub(crate) const fn is_none(&self) -> bool {
        matches!(self.0, Means::None)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Means::None => "Auth::none",
            Means::Key(_) => "Auth::key",
            Means::Keys(_) => "Auth::keys",
        })
    }
}

/// A messenger's credentials and its own ticket secrets, made at its start: tickets of an earlier life are refused.
pub(crate) struct Guard {
    means: Means,
    want: ServiceMask,
    issuer: Mutex<Issuer>,
}

struct Issuer {
    secrets: Arc<TicketSecrets>,
    rng: StdRng,
}

impl Guard {
    /// `want`: the services that tickets are asked for, where a monitor lets us in, and given for, where we let in.
    pub(crate) fn new(auth: &Auth, want: ServiceMask, clock: &Clock) -> Result<Self, BuildError> {
        let mut rng = random()?;
        // Only this process ever opens what is sealed with them. Ceph's clients are not content before they have a
        // ticket for each service that they ask for, here as everywhere.
        let secrets = TicketSecrets::generate(KeyType::Aes256k, want, date(clock), &mut rng);
        let issuer = Issuer { secrets: Arc::new(secrets), rng };
        Ok(Self { means: auth.0.clone(), want, issuer: Mutex::new(issuer) })
    }

    /// What a connection that comes in now is judged by.
    pub(crate) fn authority(&self, clock: &Clock) -> Result<Arc<Authority>, ListenError> {
        match &self.means {
            Means::None => Ok(Arc::new(Authority::None)),
            Means::Key(_) => Err(ListenError::NoKeyring),
            Means::Keys(keys) => {
                let now = date(clock);
                let mut issuer = self.issuer.lock().unwrap_or_else(PoisonError::into_inner);
                let Issuer { secrets, rng } = &mut *issuer;
                if secrets.rotate_at().is_some_and(|at| at <= now) {
                    Arc::make_mut(secrets).rotate(now, rng);
                }
                let secrets = Arc::clone(secrets);
                Ok(Arc::new(Authority::Monitor { keys: Arc::clone(keys), secrets, now }))
            }
        }
    }

    /// What a session of ours proves itself with.
    pub(crate) fn credential(&self, name: &EntityName, clock: &Clock) -> Result<Credential, ConnectError> {
        let key = match &self.means {
            Means::None => return Ok(Credential::None { name: name.clone(), global_id: 0 }),
            Means::Key(key) => key.clone(),
            Means::Keys(keys) => {
                let no_key = || ConnectError::NoKey { name: name.to_string() };
                keys.key(name).cloned().ok_or_else(no_key)?
            }
        };
        let now = date(clock);
        Ok(Credential::Key { name: name.clone(), key, want: self.want, previous: None, now })
    }
}

/// The credential for the next connection: with what the last login brought, it keeps the number that it gave us.
pub(crate) fn renewed(credential: &Credential, tickets: Option<Box<Tickets>>, clock: &Clock) -> Credential {
    match credential {
        Credential::Key { name, key, want, previous, now: _ } => Credential::Key {
            name: name.clone(),
            key: key.clone(),
            want: *want,
            previous: tickets.or_else(|| previous.clone()),
            now: date(clock),
        },
        Credential::None { .. } | Credential::Ticket { .. } => credential.clone(),
    }
}

fn date(clock: &Clock) -> Timestamp {
    Timestamp::from_unix(clock.date())
}

/// A generator that the system has seeded.
pub(crate) fn random() -> Result<StdRng, BuildError> {
    StdRng::try_from_rng(&mut rand::rngs::SysRng).map_err(|_| BuildError::NoRandomness)
}

/// A new key of the type that is recommended, from the system's randomness.
///
/// # Errors
/// The system gave no random numbers.
pub fn generate_key() -> Result<Key, BuildError> {
    Ok(Key::generate(KeyType::default(), date(&Clock::new()), &mut random()?))
}
