//! Tickets: what a monitor hands out and a service believes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::time::Duration;

use bytes::Bytes;

use crate::entity::EntityType;
use crate::{Key, Timestamp};

/// A set of services, as a mask of the numbers of [`EntityType`]: for which of them tickets are wanted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ServiceMask(u32);

impl ServiceMask {
    /// None.
    pub const NONE: ServiceMask = ServiceMask(0);
    /// The monitors.
    pub const MON: ServiceMask = ServiceMask(EntityType::Mon as u32);
    /// The metadata servers.
    pub const MDS: ServiceMask = ServiceMask(EntityType::Mds as u32);
    /// The object storage daemons.
    pub const OSD: ServiceMask = ServiceMask(EntityType::Osd as u32);
    /// The managers.
    pub const MGR: ServiceMask = ServiceMask(EntityType::Mgr as u32);
    /// The auth ticket itself. It comes with every login, whether it is asked for or not.
    pub const AUTH: ServiceMask = ServiceMask(EntityType::Auth as u32);

    /// The set whose mask on the wire is `bits`. Bits without a service stay, and name nothing.
    pub const fn from_bits(bits: u32) -> Self {
        ServiceMask(bits)
    }

    /// The mask on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `service` is in it.
    pub const fn contains(self, service: EntityType) -> bool {
        !matches!(service, EntityType::Any) && self.0 & service.number() as u32 != 0
    }

    /// The services in it, by their numbers.
    pub fn iter(self) -> impl Iterator<Item = EntityType> {
        EntityType::ALL.into_iter().filter(move |service| self.contains(*service))
    }
}

impl From<EntityType> for ServiceMask {
    fn from(service: EntityType) -> Self {
        ServiceMask(u32::from(service.number()))
    }
}

impl BitOr for ServiceMask {
    type Output = ServiceMask;

    fn bitor(self, other: ServiceMask) -> ServiceMask {
        ServiceMask(self.0 | other.0)
    }
}

impl BitOrAssign for ServiceMask {
    fn bitor_assign(&mut self, other: ServiceMask) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for ServiceMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceMask({:#x})", self.0)
    }
}

/// The sealed part of a ticket, as it travels: which secret of the service it is sealed with, and the sealed bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TicketBlob {
    pub(crate) secret_id: u64,
    pub(crate) sealed: Bytes,
}

/// What a client holds to be let in by one kind of service: a session key, and a sealed blob with the same key that
/// only the service can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) service: EntityType,
    pub(crate) session_key: Key,
    pub(crate) blob: TicketBlob,
    pub(crate) validity: Duration,
    pub(crate) expires: Timestamp,
}

/// A ticket is renewed when this part of its validity is left, as C++ and Linux do.
const RENEW_WITH_LEFT: u32 = 4;

impl Ticket {
    /// The kind of service that takes it.
    pub fn service(&self) -> EntityType {
        self.service
    }

    /// The key shared with the service.
    pub fn session_key(&self) -> &Key {
        &self.session_key
    }

    /// The number of the service's secret that seals it.
    pub fn secret_id(&self) -> u64 {
        self.blob.secret_id
    }

    /// For how long it was good when it came.
    pub fn validity(&self) -> Duration {
        self.validity
    }

    /// When it ends, by the client's clock.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// When to ask for another: with a quarter of the validity left.
    pub fn renew_at(&self) -> Timestamp {
        self.expires.saturating_sub(self.validity / RENEW_WITH_LEFT)
    }
}

/// The tickets of a client, and the number the monitors know it by.
///
/// It is what lets a client keep that number when it comes back (pass it to
/// [`MonitorLogin::new`](crate::client::MonitorLogin::new)) and what logs it in to services
/// ([`ServiceLogin::new`](crate::client::ServiceLogin::new)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tickets {
    pub(crate) global_id: u64,
    pub(crate) auth: Ticket,
    pub(crate) services: BTreeMap<EntityType, Ticket>,
}

impl Tickets {
    /// The number of this client in the cluster.
    pub fn global_id(&self) -> u64 {
        self.global_id
    }

    /// The auth ticket: the right to ask for others, and to keep the number.
    pub fn auth(&self) -> &Ticket {
        &self.auth
    }

    /// The ticket for this kind of service.
    pub fn get(&self, service: EntityType) -> Option<&Ticket> {
        match service {
            EntityType::Auth => Some(&self.auth),
            EntityType::Mon
            | EntityType::Mds
            | EntityType::Osd
            | EntityType::Client
            | EntityType::Mgr
            | EntityType::Any => self.services.get(&service),
        }
    }

    /// All tickets, the auth ticket first.
    pub fn iter(&self) -> impl Iterator<Item = &Ticket> {
        std::iter::once(&self.auth).chain(self.services.values())
    }

    /// When the first of them wants to be renewed, which takes another login with a monitor.
    pub fn renew_at(&self) -> Timestamp {
        self.iter().map(Ticket::renew_at).min().unwrap_or_else(|| self.auth.renew_at())
    }

    /// Those of the `wanted` services for which there is no ticket, or one that wants to be renewed at `now`.
    pub fn needed(&self, wanted: ServiceMask, now: Timestamp) -> ServiceMask {
        let stale = |service| self.get(service).is_none_or(|ticket| ticket.renew_at() <= now);
        wanted
            .iter()
            .filter(|service| stale(*service))
            .fold(ServiceMask::NONE, |needed, service| needed | service.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyType;

    fn ticket(service: EntityType, validity_s: u64, now: u32) -> Ticket {
        let validity = Duration::from_secs(validity_s);
        Ticket {
            service,
            session_key: Key::new(KeyType::Aes, Timestamp::default(), &[0; 16]).unwrap(),
            blob: TicketBlob::default(),
            validity,
            expires: Timestamp::new(now, 0).saturating_add(validity),
        }
    }

    #[test]
    fn a_ticket_is_renewed_with_a_quarter_left() {
        assert_eq!(ticket(EntityType::Osd, 3600, 1000).renew_at(), Timestamp::new(1000 + 2700, 0));
    }

    #[test]
    fn needed_are_the_missing_and_the_old() {
        let tickets = Tickets {
            global_id: 1,
            auth: ticket(EntityType::Auth, 1000, 0),
            services: BTreeMap::from([(EntityType::Osd, ticket(EntityType::Osd, 400, 0))]),
        };
        let wanted = ServiceMask::AUTH | ServiceMask::OSD | ServiceMask::MGR;
        assert_eq!(tickets.needed(wanted, Timestamp::new(299, 0)), ServiceMask::MGR);
        assert_eq!(tickets.renew_at(), Timestamp::new(300, 0));
        assert_eq!(tickets.needed(wanted, Timestamp::new(300, 0)), ServiceMask::MGR | ServiceMask::OSD);
    }

    #[test]
    fn a_mask_lists_its_services() {
        let mask = ServiceMask::from_bits(0x8000_0000 | 1 | 0x10);
        assert_eq!(mask.iter().collect::<Vec<_>>(), [EntityType::Mon, EntityType::Mgr]);
        assert!(!mask.contains(EntityType::Any));
    }
}
