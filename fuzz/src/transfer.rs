//! What the ends of a copy say to each other.

use crate::input::Input;
use bytes::Bytes;
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
