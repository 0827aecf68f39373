//! Authentication without any: the method `none`, which believes every name.
//!
//! It takes one message and no answer: `AUTH_DONE` comes at once, empty, in the plain mode, since there is no secret to
//! key another with. Source: `src/auth/none/AuthNoneClientHandler.h`, `AuthNoneAuthorizeHandler.cc`.

use bytes::Bytes;

use crate::message::{AuthMode, MonitorRequest};
use crate::server::{Refusal, RefusalReason};
use crate::wire::{DecodeError, Reader, Writer};
use crate::{EntityName, EntityType};

/// The payload of the `AUTH_REQUEST` to a monitor. A client without a number claims 0 and is given one.
pub fn monitor_request(name: &EntityName, global_id: u64) -> Bytes {
    let mut out = Writer::new();
    MonitorRequest { name: name.clone(), global_id }.encode(&mut out);
    out.into_bytes()
}

/// The payload of the `AUTH_REQUEST` to a service, with the number a monitor gave.
pub fn service_request(name: &EntityName, global_id: u64) -> Bytes {
    let mut out = Writer::new();
    out.u8(AuthMode::SERVICE);
    name.encode(&mut out);
    out.u64(global_id);
    out.into_bytes()
}

/// What a client of the method `none` says of itself. Nothing of it is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// Whom it speaks to; `None` when the payload was empty.
    pub mode: Option<AuthMode>,
    /// Its name; `client.` with an empty id when the payload was empty.
    pub entity: EntityName,
    /// Its number, 0 for none yet.
    pub global_id: u64,
}

/// Reads the payload of an `AUTH_REQUEST` with the method `none`. Ceph's own test programs send an empty one.
///
/// # Errors
///
/// The peer's fault: the payload cannot be read. It is refused like everything else, with `EACCES`.
pub fn accept(payload: &[u8]) -> Result<Claim, Refusal> {
    decode(payload).map_err(|error| RefusalReason::Decode(error).into())
}

fn decode(payload: &[u8]) -> Result<Claim, DecodeError> {
    if payload.is_empty() {
        return Ok(Claim { mode: None, entity: EntityName::new(EntityType::Client, ""), global_id: 0 });
    }
    let mut input = Reader::new(payload);
    let mode = AuthMode::decode(&mut input)?;
    let entity = EntityName::decode(&mut input)?;
    Ok(Claim { mode: Some(mode), entity, global_id: input.u64("a global id")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::REFUSED_ERRNO;

    #[test]
    fn both_forms_and_the_empty_one_are_read() {
        let name: EntityName = "client.admin".parse().unwrap();
        let to_monitor = monitor_request(&name, 0);
        assert_eq!(&to_monitor[..], b"\x0a\x08\0\0\0\x05\0\0\0admin\0\0\0\0\0\0\0\0");
        let claim = accept(&to_monitor).unwrap();
        assert_eq!(claim, Claim { mode: Some(AuthMode::Monitor), entity: name.clone(), global_id: 0 });
        let to_service = service_request(&name, 4123);
        assert_eq!(&to_service[..], b"\x01\x08\0\0\0\x05\0\0\0admin\x1b\x10\0\0\0\0\0\0");
        let claim = accept(&to_service).unwrap();
        assert_eq!(claim, Claim { mode: Some(AuthMode::Service), entity: name, global_id: 4123 });
        assert_eq!(accept(&[]).unwrap().mode, None);
    }

    #[test]
    fn a_cut_payload_is_refused_at_every_length() {
        let payload = service_request(&EntityName::new(EntityType::Osd, "7"), 1);
        for len in 1..payload.len() {
            let refusal = accept(&payload[..len]).unwrap_err();
            assert_eq!(refusal.errno, REFUSED_ERRNO, "{len} bytes");
        }
        assert!(accept(&[2, 8, 0, 0, 0]).is_err(), "another mode");
    }
}
