//! The rotating secrets that seal tickets.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_core::CryptoRng;

use super::{CLOCK_SKEW_SECONDS_MAX, RefusalReason};
use crate::crypt::{Usage, open};
use crate::message::ServicePart;
use crate::ticket::{ServiceMask, TicketBlob};
use crate::wire::Reader;
use crate::{EntityType, Key, KeyType, Timestamp};

/// How many secrets of a service live at a time: the previous, the current and the next (`KEY_ROTATE_NUM` in
/// `src/auth/Auth.h`).
const SECRETS: usize = 3;

/// One secret of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotatingSecret {
    /// Its number, which tickets name. Later ones have higher numbers.
    pub id: u64,
    /// The secret.
    pub key: Key,
    /// When new tickets are no longer sealed with it.
    pub expires: Timestamp,
}

/// The secrets of one kind of service: three at a time, so that neither a ticket of the last hour nor a service that
/// is late in fetching the newest is left behind.
///
/// Tickets are sealed with the current one; those sealed with any of the three are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSecrets {
    /// Oldest first; never empty, at most [`SECRETS`].
    secrets: Vec<RotatingSecret>,
    validity: Duration,
}

impl ServiceSecrets {
    /// For how long an auth ticket is good unless told otherwise: three days (`auth_mon_ticket_ttl`).
    pub const AUTH_VALIDITY: Duration = Duration::from_secs(72 * 3600);
    /// For how long other tickets are good unless told otherwise: an hour (`auth_service_ticket_ttl`).
    pub const SERVICE_VALIDITY: Duration = Duration::from_secs(3600);

    /// Fresh secrets of this type, for tickets that are good for `validity`; each secret lives that long, too.
    pub fn generate(key_type: KeyType, validity: Duration, now: Timestamp, rng: &mut dyn CryptoRng) -> Self {
        let mut secrets = Vec::with_capacity(SECRETS);
        let mut expires = now;
        for id in 1..=SECRETS as u64 {
            secrets.push(RotatingSecret { id, key: Key::generate(key_type, now, rng), expires });
            expires = expires.saturating_add(validity);
        }
        ServiceSecrets { secrets, validity }
    }

    /// The secrets a service was given. Of more than three the newest are kept; `None` when there is none at all.
    pub fn from_secrets(
        secrets: impl IntoIterator<Item = RotatingSecret>,
        validity: Duration,
    ) -> Option<Self> {
        let by_id: BTreeMap<u64, RotatingSecret> =
            secrets.into_iter().map(|secret| (secret.id, secret)).collect();
        let superfluous = by_id.len().saturating_sub(SECRETS);
        let secrets: Vec<RotatingSecret> = by_id.into_values().skip(superfluous).collect();
        (!secrets.is_empty()).then_some(ServiceSecrets { secrets, validity })
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &RotatingSecret> {
        self.secrets.iter()
    }

    /// For how long tickets are good.
    pub fn validity(&self) -> Duration {
        self.validity
    }

    /// The one that seals tickets: the second newest, or the newest once that has expired.
    pub fn current(&self, now: Timestamp) -> &RotatingSecret {
        let newest = self.secrets.len() - 1;
        let current = &self.secrets[newest.saturating_sub(1)];
        if current.expires < now { &self.secrets[newest] } else { current }
    }

    /// The one with this number.
    pub fn get(&self, id: u64) -> Option<&RotatingSecret> {
        self.secrets.iter().find(|secret| secret.id == id)
    }

    /// When [`rotate`](Self::rotate) is due: when the current secret expires.
    pub fn rotate_at(&self) -> Timestamp {
        self.secrets[self.secrets.len().saturating_sub(2)].expires
    }

    /// Makes a new next secret, and drops the oldest, if it is time. After a long sleep all three are replaced. Tells
    /// whether anything changed.
    pub fn rotate(&mut self, now: Timestamp, rng: &mut dyn CryptoRng) -> bool {
        let mut changed = false;
        for _ in 0..SECRETS {
            if self.secrets.len() == SECRETS && self.rotate_at() > now {
                break;
            }
            let newest = &self.secrets[self.secrets.len() - 1];
            let key = Key::generate(newest.key.key_type(), now, rng);
            let expires = newest.expires.max(now).saturating_add(self.validity);
            let id = newest.id.wrapping_add(1);
            self.secrets.push(RotatingSecret { id, key, expires });
            if self.secrets.len() > SECRETS {
                self.secrets.remove(0);
            }
            changed = true;
        }
        changed
    }

    /// Opens a ticket and checks that its dates hold together.
    ///
    /// A ticket of type `aes` can be changed without the secret (CVE-2025-30156), so the dates that a monitor writes
    /// into it are compared with each other as Ceph does: the session key is made when the ticket is, and no ticket is
    /// good for longer than its secret.
    pub(crate) fn open_ticket(&self, ticket: &TicketBlob) -> Result<ServicePart, RefusalReason> {
        let secret =
            self.get(ticket.secret_id).ok_or(RefusalReason::StaleTicket { secret_id: ticket.secret_id })?;
        let opened = open(&secret.key, Usage::TicketInfo, &ticket.sealed)
            .map_err(|_| RefusalReason::Undecipherable)?;
        let part = ServicePart::decode(&mut Reader::new(&opened))?;
        let key_age = part.session_key.created().saturating_since(part.created);
        let dates_hold = part.created.is_plausible()
            && part.expires.is_plausible()
            && part.created <= part.expires
            && part.session_key.created() >= part.created
            && key_age <= Duration::from_secs(u64::from(CLOCK_SKEW_SECONDS_MAX))
            && part.expires.saturating_since(part.created)
                <= secret.expires.saturating_since(secret.key.created());
        if dates_hold { Ok(part) } else { Err(RefusalReason::Dates) }
    }
}

/// The secrets of all services, as a monitor has them. Those of [`EntityType::Auth`] are its own, and without them it
/// cannot let anybody in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketSecrets {
    by_service: BTreeMap<EntityType, ServiceSecrets>,
}

impl TicketSecrets {
    /// No secrets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fresh secrets of this type for the monitors themselves and for `services`, with Ceph's usual validities.
    pub fn generate(
        key_type: KeyType,
        services: ServiceMask,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let mut secrets = Self::new();
        for service in (services | ServiceMask::AUTH).iter() {
            let validity = if service == EntityType::Auth {
                ServiceSecrets::AUTH_VALIDITY
            } else {
                ServiceSecrets::SERVICE_VALIDITY
            };
            secrets.insert(service, ServiceSecrets::generate(key_type, validity, now, rng));
        }
        secrets
    }

    /// Sets the secrets of one service.
    pub fn insert(&mut self, service: EntityType, secrets: ServiceSecrets) {
        self.by_service.insert(service, secrets);
    }

    /// The secrets of one service.
    pub fn get(&self, service: EntityType) -> Option<&ServiceSecrets> {
        self.by_service.get(&service)
    }

    /// When the first of them is due to rotate.
    pub fn rotate_at(&self) -> Option<Timestamp> {
        self.by_service.values().map(ServiceSecrets::rotate_at).min()
    }

    /// Rotates all that are due. Tells whether anything changed.
    pub fn rotate(&mut self, now: Timestamp, rng: &mut dyn CryptoRng) -> bool {
        self.by_service.values_mut().fold(false, |changed, secrets| secrets.rotate(now, rng) | changed)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::crypt::seal;
    use crate::wire::{DecodeError, Writer};
    use crate::{EntityName, KeyType};

    fn ids(secrets: &ServiceSecrets) -> Vec<u64> {
        secrets.iter().map(|secret| secret.id).collect()
    }

    #[test]
    fn the_middle_one_seals_and_moves_on_when_it_expires() {
        let mut rng = StdRng::seed_from_u64(1);
        let hour = Duration::from_secs(3600);
        let mut secrets = ServiceSecrets::generate(KeyType::Aes256k, hour, Timestamp::new(0, 0), &mut rng);
        assert_eq!((ids(&secrets), secrets.current(Timestamp::new(3599, 0)).id), (vec![1, 2, 3], 2));
        assert_eq!(secrets.rotate_at(), Timestamp::new(3600, 0));
        assert!(!secrets.rotate(Timestamp::new(3599, 0), &mut rng));
        assert_eq!(secrets.current(Timestamp::new(3601, 0)).id, 3, "also when nobody rotated");
        assert!(secrets.rotate(Timestamp::new(3600, 0), &mut rng));
        assert_eq!((ids(&secrets), secrets.current(Timestamp::new(3600, 0)).id), (vec![2, 3, 4], 3));
        assert!(!secrets.rotate(Timestamp::new(3600, 0), &mut rng));
    }

    #[test]
    fn a_long_sleep_replaces_all() {
        let mut rng = StdRng::seed_from_u64(1);
        let hour = Duration::from_secs(3600);
        let mut secrets = ServiceSecrets::generate(KeyType::Aes, hour, Timestamp::new(0, 0), &mut rng);
        let late = Timestamp::new(100_000, 0);
        assert!(secrets.rotate(late, &mut rng));
        assert!(ids(&secrets)[1] > 3 || secrets.rotate_at() > late);
        assert!(secrets.rotate_at() > late);
        assert!(secrets.current(late).expires > late);
    }

    #[test]
    fn of_many_the_newest_three_are_kept() {
        let key = Key::new(KeyType::Aes, Timestamp::default(), &[1; 16]).unwrap();
        let secret = |id| RotatingSecret { id, key: key.clone(), expires: Timestamp::default() };
        let secrets = ServiceSecrets::from_secrets([9, 3, 5, 7].map(secret), Duration::ZERO).unwrap();
        assert_eq!(ids(&secrets), [5, 7, 9]);
        assert_eq!(ServiceSecrets::from_secrets([], Duration::ZERO), None);
    }

    /// Seals a ticket whose plaintext `change` has changed, and tells what opening it gives.
    fn open_changed(
        part: &ServicePart,
        change: impl FnOnce(&mut Vec<u8>),
        secrets: &ServiceSecrets,
        rng: &mut StdRng,
    ) -> Result<(), RefusalReason> {
        let mut out = Writer::new();
        part.encode(&mut out);
        let mut plaintext = out.as_slice().to_vec();
        change(&mut plaintext);
        let secret = secrets.current(Timestamp::new(1000, 0));
        let sealed = seal(&secret.key, Usage::TicketInfo, &plaintext, rng).into();
        secrets.open_ticket(&TicketBlob { secret_id: secret.id, sealed }).map(|_| ())
    }

    fn part(created: Timestamp, expires: Timestamp, key_created: Timestamp) -> ServicePart {
        ServicePart {
            name: EntityName::new(EntityType::Client, "x"),
            global_id: 1,
            created,
            expires,
            caps: Some("allow rw pool=a".into()),
            session_key: Key::new(KeyType::Aes, key_created, &[1; 16]).unwrap(),
        }
    }

    /// As Ceph's `src/test/test_auth.cc` has it since the tickets' malleability was found.
    #[test]
    fn a_ticket_whose_dates_contradict_each_other_is_refused() {
        let mut rng = StdRng::seed_from_u64(1);
        let hour = Duration::from_secs(3600);
        let at = |seconds| Timestamp::new(seconds, 0);
        for key_type in [KeyType::Aes, KeyType::Aes256k] {
            let secrets = ServiceSecrets::generate(key_type, hour, at(1000), &mut rng);
            for (created, expires, key_created, good) in [
                (at(1000), at(4600), at(1000), true),
                (at(1000), at(4601), at(1000), false),
                (at(1060), at(1059), at(1060), false),
                (at(1060), at(4000), at(1059), false),
                (at(1060), at(4000), at(1360), true),
                (at(1060), at(4000), at(1361), false),
                (Timestamp::new(1060, 1_000_000_000), at(4000), at(1061), true),
                (Timestamp::new(1060, 1_000_000_001), at(4000), at(1062), false),
                (at(1060), Timestamp::new(4000, 1_000_000_001), at(1060), false),
            ] {
                let result = open_changed(&part(created, expires, key_created), |_| {}, &secrets, &mut rng);
                let expected = if good { Ok(()) } else { Err(RefusalReason::Dates) };
                assert_eq!(result, expected, "{created} to {expires}, key of {key_created}");
            }
        }
    }

    #[test]
    fn a_ticket_with_a_field_that_no_monitor_writes_is_refused() {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Timestamp::new(1000, 0);
        let secrets = ServiceSecrets::generate(KeyType::Aes, Duration::from_secs(3600), now, &mut rng);
        let good = part(now, now, now);
        // Two versions, the name with its id of one byte, the number; then the auid, two dates and a version.
        const AUID: usize = 2 + (4 + 4 + 1) + 8;
        const ALLOW_ALL: usize = AUID + 8 + 8 + 8 + 1;
        const CAPS: usize = ALLOW_ALL + 1 + 4;
        let mut open = |change: fn(&mut Vec<u8>)| open_changed(&good, change, &secrets, &mut rng);
        assert_eq!(open(|_| {}), Ok(()));
        let wrong = |field, value| Err(RefusalReason::Decode(DecodeError::Value { field, value }));
        assert_eq!(open(|bytes| bytes[AUID] ^= 1), wrong("a ticket's auid", u64::MAX - 1));
        assert_eq!(open(|bytes| bytes[ALLOW_ALL] = 1), wrong("a ticket's allow-all", 1));
        // "allow rw" instead of "allow rw pool=a".
        let cut = DecodeError::TooMany { field: "a ticket's capabilities", count: 19, max: 12 };
        assert_eq!(open(|bytes| bytes[CAPS] = 8), Err(RefusalReason::Decode(cut)));
        let version = DecodeError::Version { field: "a ticket's inside", version: 1 };
        assert_eq!(open(|bytes| bytes[1] = 1), Err(RefusalReason::Decode(version)));
    }
}
