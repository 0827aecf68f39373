//! What frames carry: addresses, banner, header, the payloads of control frames.

use crate::input::Input;
use outlast_msgr2::frame::Tag;
use outlast_msgr2::wire::{
    AddrVec, BANNER_PREFIX_BYTES, Banner, Control, EntityAddr, MESSAGE_HEADER_BYTES, MessageHeader, Reader,
};

/// An address or an address vector, as bytes or as text.
pub fn address(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8() % 4;
    let bytes = input.rest();
    match choice {
        0 => {
            let mut reader = Reader::new(bytes);
            let Ok(address) = EntityAddr::decode(&mut reader) else { return };
            let consumed = &bytes[..bytes.len() - reader.remaining()];
            let mut again = Vec::new();
            address.encode(&mut again);
            if is_canonical(consumed) {
                assert_eq!(again, consumed, "encoded again");
            }
            let reader = &mut Reader::new(&again);
            assert_eq!(EntityAddr::decode(reader), Ok(address), "decoded again");
            assert!(reader.is_empty());
            let mut legacy = Vec::new();
            address.encode_legacy(&mut legacy);
            let old = EntityAddr::decode(&mut Reader::new(&legacy)).expect("our own legacy encoding");
            assert_eq!((old.nonce, old.socket_addr()), (address.nonce, address.socket_addr()));
            let _ = (address.to_string(), address.socket_addr(), address.ip());
        }
        1 => {
            let Ok(vector) = AddrVec::decode(&mut Reader::new(bytes)) else { return };
            let mut again = Vec::new();
            vector.encode(&mut again);
            assert_eq!(AddrVec::decode(&mut Reader::new(&again)).as_ref(), Ok(&vector), "decoded again");
            let _ = (vector.to_string(), vector.msgr2(), vector.is_blank());
        }
        2 => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let Ok(address) = text.parse::<EntityAddr>() else { return };
            assert_eq!(address.to_string().parse(), Ok(address), "read again");
        }
        _ => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let Ok(vector) = text.parse::<AddrVec>() else { return };
            assert_eq!(vector.to_string().parse(), Ok(vector), "read again");
        }
    }
}

/// Whether an address is in the form that everybody writes: new encoding, version 1, nothing behind the fields.
fn is_canonical(bytes: &[u8]) -> bool {
    let word = |at: usize| {
        bytes.get(at..at + 4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
    };
    bytes.starts_with(&[1, 1, 1]) && word(3) == word(15).map(|len| len + 12)
}

/// A banner.
pub fn banner(data: &[u8]) {
    let Some((prefix, payload)) = data.split_first_chunk::<BANNER_PREFIX_BYTES>() else { return };
    let Ok(len) = Banner::payload_len(prefix) else { return };
    let Some(payload) = payload.get(..len) else { return };
    let banner = Banner::decode_payload(payload).expect("the length was checked");
    let again = banner.encode();
    assert_eq!(again[BANNER_PREFIX_BYTES..], payload[..16], "encoded again");
}

/// A message header.
pub fn header(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<MESSAGE_HEADER_BYTES>() else { return };
    assert_eq!(MessageHeader::decode(bytes).encode(), *bytes, "encoded again");
}

/// The payload of a control frame; the first byte is its tag.
pub fn control(data: &[u8]) {
    let mut input = Input::new(data);
    let Some(tag) = Tag::from_wire(input.u8()) else { return };
    let payload = input.rest();
    let Ok(control) = Control::decode(tag, payload) else { return };
    assert_eq!(control.tag(), tag);
    let mut again = Vec::new();
    control.encode(&mut again);
    assert_eq!(Control::decode(tag, &again).as_ref(), Ok(&control), "decoded again");
    // Addresses have several encodings, and a bool is anything but zero.
    let one_form = !matches!(
        control,
        Control::Hello(_)
            | Control::ClientIdent(_)
            | Control::ServerIdent(_)
            | Control::SessionReconnect(_)
            | Control::SessionReset(_)
            | Control::CompressionRequest(_)
            | Control::CompressionDone(_)
    );
    if one_form {
        assert!(payload.starts_with(&again), "encoded again");
    }
}
