//! Who is who: the types of Ceph's entities and their names.

use std::fmt;
use std::str::FromStr;

use crate::wire::{DecodeError, Reader, Writer};

/// The kind of an entity, numbered as in Ceph's `src/include/msgr.h`. The numbers are single bits, so that a mask can
/// name several ([`ServiceMask`](crate::ServiceMask)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntityType {
    /// A monitor: hands out tickets.
    Mon = 0x01,
    /// A metadata server.
    Mds = 0x02,
    /// An object storage daemon.
    Osd = 0x04,
    /// A client.
    Client = 0x08,
    /// A manager.
    Mgr = 0x10,
    /// The authentication service of the monitors; never a process of its own.
    Auth = 0x20,
    /// Any kind; a wildcard in policies, never a name.
    Any = 0xff,
}

impl EntityType {
    /// All types, in the order of their numbers.
    pub const ALL: [EntityType; 7] = [
        EntityType::Mon,
        EntityType::Mds,
        EntityType::Osd,
        EntityType::Client,
        EntityType::Mgr,
        EntityType::Auth,
        EntityType::Any,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The type with this number on the wire.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|entity_type| u32::from(entity_type.number()) == number)
    }

    /// The name in front of the dot, as in `client.admin`. Ceph writes a wildcard as `*`.
    pub const fn name(self) -> &'static str {
        match self {
            EntityType::Mon => "mon",
            EntityType::Mds => "mds",
            EntityType::Osd => "osd",
            EntityType::Client => "client",
            EntityType::Mgr => "mgr",
            EntityType::Auth => "auth",
            EntityType::Any => "*",
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let number = input.u32(field)?;
        Self::from_number(number).ok_or(DecodeError::Value { field, value: u64::from(number) })
    }
}

impl fmt::Display for EntityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EntityType {
    type Err = EntityNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|entity_type| entity_type.name() == text).ok_or(EntityNameError::Type)
    }
}

/// The longest id read from a peer or a file, in bytes. Ceph sets no limit; its own ids (`admin`, `0`, a host's name,
/// a path of names for services) stay far below.
pub const ENTITY_ID_BYTES_MAX: usize = 256;

/// The name of an entity: its type and an id, written `client.admin`, `osd.0`, or `mon.` (the key all monitors share).
///
/// Names are ordered by type number, then by id, which is the order of Ceph's own keyring files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityName {
    entity_type: EntityType,
    id: String,
}

/// A text is not the name of an entity. The user's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntityNameError {
    /// There is no dot between a type and an id.
    #[error("an entity's name is written TYPE.ID, as in client.admin")]
    NoDot,
    /// The type is none of Ceph's.
    #[error("the type of an entity is one of mon, mds, osd, client, mgr, auth")]
    Type,
    /// The id has a character that no file or log could show, or a closing bracket.
    #[error("the id of an entity has no control characters and no brackets")]
    Character,
    /// The id is longer than [`ENTITY_ID_BYTES_MAX`].
    #[error("the id of an entity has at most {ENTITY_ID_BYTES_MAX} bytes")]
    TooLong,
}

impl EntityName {
    /// The entity of this type and id. Nothing is checked: a name that came from outside is parsed
    /// ([`FromStr`]), which does; and [`EntityName::check`] tells whether others will take the name.
    pub fn new(entity_type: EntityType, id: impl Into<String>) -> Self {
        EntityName { entity_type, id: id.into() }
    }

    /// What kind of entity this is.
    pub fn entity_type(&self) -> EntityType {
        self.entity_type
    }

    /// The part behind the dot.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this name can be written to a keyring and will be taken by a peer.
    ///
    /// # Errors
    ///
    /// The user's fault: the id is too long, or has characters that a name may not have.
    pub fn check(&self) -> Result<(), EntityNameError> {
        check_id(&self.id)
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u32(u32::from(self.entity_type.number()));
        out.prefixed(self.id.as_bytes());
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const ID: &str = "an entity's id";
        let entity_type = EntityType::decode(input, "an entity's type")?;
        let id = input.prefixed(ID)?;
        if id.len() > ENTITY_ID_BYTES_MAX {
            return Err(DecodeError::TooMany { field: ID, count: id.len(), max: ENTITY_ID_BYTES_MAX });
        }
        let id = std::str::from_utf8(id).map_err(|_| DecodeError::Text { field: ID })?;
        check_id(id).map_err(|_| DecodeError::Text { field: ID })?;
        Ok(EntityName { entity_type, id: id.to_owned() })
    }
}

fn check_id(id: &str) -> Result<(), EntityNameError> {
    if id.len() > ENTITY_ID_BYTES_MAX {
        return Err(EntityNameError::TooLong);
    }
    if id.chars().any(|c| c.is_control() || c == '[' || c == ']') {
        return Err(EntityNameError::Character);
    }
    Ok(())
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entity_type, self.id)
    }
}

impl FromStr for EntityName {
    type Err = EntityNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (entity_type, id) = text.split_once('.').ok_or(EntityNameError::NoDot)?;
        check_id(id)?;
        Ok(EntityName { entity_type: entity_type.parse()?, id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, entity_type, id) in [
            ("client.admin", EntityType::Client, "admin"),
            ("osd.0", EntityType::Osd, "0"),
            ("mon.", EntityType::Mon, ""),
            ("client.rgw.host.a", EntityType::Client, "rgw.host.a"),
        ] {
            let name: EntityName = text.parse().unwrap();
            assert_eq!(name, EntityName::new(entity_type, id));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!("admin".parse::<EntityName>(), Err(EntityNameError::NoDot));
        assert_eq!("cat.1".parse::<EntityName>(), Err(EntityNameError::Type));
        assert_eq!("client.a]\n[b".parse::<EntityName>(), Err(EntityNameError::Character));
        let long = format!("client.{}", "x".repeat(ENTITY_ID_BYTES_MAX + 1));
        assert_eq!(long.parse::<EntityName>(), Err(EntityNameError::TooLong));
    }

    #[test]
    fn numbers_are_those_of_ceph() {
        let numbers: Vec<u8> = EntityType::ALL.into_iter().map(EntityType::number).collect();
        assert_eq!(numbers, [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0xff]);
        assert_eq!(EntityType::from_number(0x08), Some(EntityType::Client));
        assert_eq!(EntityType::from_number(0x09), None);
    }
}
