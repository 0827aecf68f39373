//! What the ends of a copy say to each other.

use crate::input::Input;
use bytes::Bytes;
use outlast_transfer::name::{Name, RelativePath};
use outlast_transfer::wire::{Message, Packet};

/// A message: its kind, the length of its front, the front; what is left is content of files.
pub fn transfer(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u16();
    let front = Bytes::copy_from_slice(input.long());
    let packet = Packet { kind, front, data: Bytes::copy_from_slice(input.rest()) };
    let Ok(message) = Message::decode(packet.clone()) else { return };
    let again = message.clone().encode();
    assert_eq!(Message::decode(again.clone()).as_ref(), Ok(&message), "decoded again");
    // Text for a terminal is cleaned, and errors that nobody knows are one error.
    let one_form = !matches!(
        message,
        Message::Refused { .. } | Message::GiveUp { .. } | Message::Report { .. } | Message::Answers { .. }
    );
    if one_form {
        assert_eq!(again, packet, "encoded again");
    }
}

/// A path that the other end asks for: it leads nowhere but down.
pub fn path(data: &[u8]) {
    let Ok(path) = RelativePath::parse(data) else { return };
    assert_ne!(data.first(), Some(&b'/'), "an absolute path");
    for name in path.names() {
        assert!(![&b""[..], b".", b".."].contains(&name.as_bytes()), "no name");
        assert!(!name.as_bytes().iter().any(|byte| [b'/', 0].contains(byte)), "more than a name");
        assert_eq!(Name::new(name.as_bytes()).as_ref(), Ok(name));
    }
    let again: Vec<_> = path.names().iter().map(Name::as_bytes).collect();
    let again = RelativePath::parse(&again.join(&b'/')).expect("the same without what says nothing");
    assert_eq!(again.names(), path.names(), "read again");
    assert_eq!(
        path.split_last().map(|(last, above)| (last, above.len() + 1)),
        path.names().last().map(|last| (last, path.names().len()))
    );
}
